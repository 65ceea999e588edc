use std::io::{ErrorKind, Write as _};
use std::process::{Child, Stdio};

use assert_cmd::assert::OutputAssertExt as _;
use daemonize2::Status;
use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_file_without_a_lock_names_no_running_daemon),
    case!(a_path_that_is_no_regular_file_is_invalid),
    case!(a_running_daemon_is_found),
    case!(a_killed_daemon_is_not_running),
    case!(a_starting_daemon_would_block),
    case!(a_starting_daemon_is_named_but_not_running, needs Linux),
    case!(an_invalid_content_under_a_lock_is_an_error),
    case!(an_unrelated_process_in_a_locked_file_is_never_signalled),
    case!(a_locked_file_that_names_the_caller_is_invalid),
    case!(a_locked_file_that_names_init_is_invalid, needs OrdinaryUser, Linux),
    case!(a_process_that_reads_the_file_is_not_the_daemon),
    case!(a_worker_that_inherited_the_lock_is_not_the_daemon),
    case!(the_daemon_is_found_without_proc, needs Root, Mounting),
    case!(a_daemon_finds_itself_and_never_signals_itself),
    case!(a_pid_file_in_the_working_directory_is_found),
    case!(a_removed_directory_means_no_running_daemon),
    case!(a_directory_that_disappears_repeatedly_is_no_error),
    case!(every_error_names_the_path),
];

/// A process that has nothing to do with the daemon.
struct Unrelated(Child);

impl Unrelated {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    /// An unrelated process that has a file open to read it.
    fn reading(path: &Path) -> Self {
        Self::with_input(File::open(path).unwrap())
    }

    fn with_input(file: File) -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").stdin(file).spawn().unwrap())
    }

    #[track_caller]
    fn assert_unharmed(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None);
    }
}

impl Drop for Unrelated {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn a_file_without_a_lock_names_no_running_daemon() {
    let scenario = scenario!();
    let path = scenario.path("daemon.pid");
    assert_not_running(&PidFile::at(&path));
    assert_not_running(&PidFile::at(scenario.path("missing/daemon.pid")));
    // A number in an unlocked file proves nothing, even if a living process has that
    // number.
    let mut unrelated = Unrelated::new();
    for content in [format!("{}\n", unrelated.0.id()), String::new()] {
        fs::write(&path, &content).unwrap();
        assert_not_running(&PidFile::at(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    unrelated.assert_unharmed();
}

fn a_path_that_is_no_regular_file_is_invalid() {
    let scenario = daemon!();
    let run = scenario.start();
    let directory = scenario.create_directory("directory");
    let fifo = scenario.path("fifo");
    sys::make_fifo(&fifo).unwrap();
    for path in [directory, fifo] {
        // `running` does not wait for a process that opens the other end.
        let error = assert_io_error(PidFile::at(&path).running(), ErrorKind::InvalidData);
        let text = format!("pid file {}: it is not a regular file", path.display());
        assert_eq!(error.to_string(), text);
        assert_io_error(PidFile::at(&path).signal(0), ErrorKind::InvalidData);
    }
    // A link is not followed, even if it leads to the daemon's file.
    let link = scenario.path("link");
    symlink(scenario.pid_file_path().unwrap(), &link).unwrap();
    PidFile::at(&link).running().unwrap_err();
    PidFile::at(&link).stop(Duration::ZERO).unwrap_err();
    run.observe();
    assert_io_error(PidFile::at("nul\0").running(), ErrorKind::InvalidInput);
}

fn a_running_daemon_is_found() {
    let scenario = daemon!();
    let run = scenario.start();
    let pid = run.report().pid;
    assert_eq!(scenario.control().running().unwrap(), Some(pid));
    assert!(scenario.control().signal(0).unwrap());
    // A daemon in the foreground is found, too.
    let scenario = daemon!().foreground(Foreground::Yes);
    let run = scenario.launch();
    let pid = run.report().pid;
    assert_eq!(scenario.control().running().unwrap(), Some(pid));
    run.exit(0);
    assert_not_running(&scenario.control());
}

fn a_killed_daemon_is_not_running() {
    let scenario = daemon!();
    let run = scenario.start();
    let pid = run.report().pid;
    run.kill_daemon();
    assert_not_running(&scenario.control());
    // The next start takes over the stale file.
    assert_eq!(run.pid_file().unwrap().bytes, content(pid));
    let run = scenario.start();
    let pid = run.report().pid;
    assert_eq!(scenario.control().running().unwrap(), Some(pid));
}

fn a_starting_daemon_would_block() {
    let scenario = daemon!().privileged_action([Step::Hold]);
    let run = scenario.launch();
    run.held();
    assert_io_error(scenario.control().running(), ErrorKind::WouldBlock);
    let signalled = scenario.control().signal(libc::SIGTERM);
    assert_io_error(signalled, ErrorKind::WouldBlock);
    run.proceed_to_success();
    let pid = run.report().pid;
    assert_eq!(scenario.control().running().unwrap(), Some(pid));
}

fn a_starting_daemon_is_named_but_not_running() {
    let scenario = daemon!().initialize([Step::Hold]);
    let run = scenario.launch();
    let pid = run.held().pid;
    let path = scenario.pid_file_path().unwrap();
    let pid_file = scenario.control();
    let error = assert_io_error(pid_file.running(), ErrorKind::WouldBlock);
    let expected = format!("pid file {}: daemon {pid} is starting", path.display());
    assert_eq!(error.to_string(), expected);
    assert_io_error(pid_file.signal(0), ErrorKind::WouldBlock);
    run.proceed_to_success();
    assert_eq!(pid_file.running().unwrap(), Some(pid));
}

/// A pid file that this test has locked as a daemon would.
struct Locked(File);

impl Locked {
    fn with(path: &Path, content: &[u8]) -> Self {
        let mut file = File::create(path).unwrap();
        sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
        file.write_all(content).unwrap();
        Self(file)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // The test unlocks explicitly: a child that another thread forks shares the
        // lock.
        let _ = sys::flock(self.0.as_fd(), libc::LOCK_UN);
    }
}

/// The errors of all operations. The library waits a while for the content to become valid, so
/// they run at once.
fn errors_of_all(pid_file: &PidFile) -> Vec<io::Error> {
    type Operation = fn(&PidFile) -> Option<io::Error>;
    let operations: [Operation; 7] = [
        |file| file.running().err(),
        |file| file.signal(0).err(),
        |file| file.signal(libc::SIGKILL).err(),
        |file| file.stop(Duration::ZERO).err(),
        |file| file.signal_group(0).err(),
        |file| file.stop_group(Duration::ZERO).err(),
        |file| file.wait_ready(Duration::ZERO).err(),
    ];
    thread::scope(|scope| {
        let running = operations.map(|operation| scope.spawn(move || operation(pid_file)));
        let errors = running.map(|thread| thread.join().unwrap());
        errors.map(|error| error.expect("an error")).into()
    })
}

#[track_caller]
fn assert_invalid(pid_file: &PidFile) {
    for error in errors_of_all(pid_file) {
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    }
}

fn an_invalid_content_under_a_lock_is_an_error() {
    let scenario = scenario!();
    let mut unrelated = Unrelated::new();
    let pid = unrelated.0.id();
    let with_unrelated = [
        format!("{pid}"),
        format!("-{pid}\n"),
        format!(" {pid}\n"),
        format!("{pid}\n{pid}\n"),
        format!("{pid} {pid}\n"),
    ];
    let long = "1".repeat(70_000);
    let invalid =
        "|0|-1|+1|2147483648|4294967295|4294967297|18446744073709551617|one|0x10|\0|\u{661}";
    let lines: Vec<_> = invalid.split('|').map(|text| format!("{text}\n")).collect();
    let numbers = lines.iter().map(String::as_str).chain([long.as_str()]);
    let texts = numbers.chain(with_unrelated.iter().map(String::as_str));
    let contents = texts.map(str::as_bytes).chain([b"\xff\xfe\n".as_slice()]);
    // The library waits a while for each content to become valid.
    thread::scope(|scope| {
        for (number, content) in contents.enumerate() {
            let path = scenario.path(format!("{number}.pid"));
            scope.spawn(move || {
                let _locked = Locked::with(&path, content);
                let pid_file = PidFile::at(&path);
                assert_io_error(pid_file.running(), ErrorKind::InvalidData);
                assert_io_error(pid_file.signal(libc::SIGKILL), ErrorKind::InvalidData);
                let began = Instant::now();
                assert_io_error(pid_file.stop(time_limit()), ErrorKind::InvalidData);
                assert!(began.elapsed() < time_limit());
                assert!(fs::read(&path).unwrap() == content);
            });
        }
    });
    unrelated.assert_unharmed();
    // An empty file under a lock means that a daemon is starting.
    let path = scenario.path("daemon.pid");
    let _locked = Locked::with(&path, b"");
    assert_io_error(PidFile::at(&path).running(), ErrorKind::WouldBlock);
}

fn an_unrelated_process_in_a_locked_file_is_never_signalled() {
    let scenario = scenario!();
    let path = scenario.path("daemon.pid");
    let mut unrelated = Unrelated::new();
    let content = format!("{}\n", unrelated.0.id());
    let _locked = Locked::with(&path, content.as_bytes());
    let pid_file = PidFile::at(&path);
    assert_invalid(&pid_file);
    assert_io_error(pid_file.signal(libc::SIGTERM), ErrorKind::InvalidData);
    unrelated.assert_unharmed();
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    // A daemon that holds another file is not signalled either.
    let other = OpenDescriptor::of_root(50, true);
    let run = daemon!()
        .from_state(|state| state.descriptors = vec![other])
        .start();
    fs::write(&path, self::content(run.report().pid)).unwrap();
    assert_io_error(pid_file.stop(Duration::ZERO), ErrorKind::InvalidData);
    run.observe();
}

/// A former daemon may have had the caller's pid, and its worker may have the lock.
fn a_locked_file_that_names_the_caller_is_invalid() {
    let scenario = scenario!();
    let path = scenario.path("daemon.pid");
    let content = content(std::process::id());
    fs::write(&path, &content).unwrap();
    let file = File::open(&path).unwrap();
    sys::flock(file.as_fd(), libc::LOCK_EX).unwrap();
    let mut locker = Unrelated::with_input(file);
    let other = scenario.path("other.pid");
    // A lock that the caller has taken without the library makes no daemon of it either.
    let _locked = Locked::with(&other, &content);
    for path in [path, other] {
        let pid_file = PidFile::at(&path);
        assert_invalid(&pid_file);
        let status = pid_file.status().unwrap();
        assert_eq!(status, Status::Locked { pid: None });
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    locker.assert_unharmed();
}

fn a_locked_file_that_names_init_is_invalid() {
    let scenario = scenario!();
    let path = scenario.path("daemon.pid");
    let _locked = Locked::with(&path, b"1\n");
    let pid_file = PidFile::at(&path);
    assert_invalid(&pid_file);
}

fn a_process_that_reads_the_file_is_not_the_daemon() {
    let scenario = daemon!();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    let pid_file = scenario.control();
    let mut reader = Unrelated::reading(&path);
    assert_eq!(pid_file.running().unwrap(), Some(run.report().pid));
    // Not even if root itself has written the number of that process.
    let content = fs::read(&path).unwrap();
    fs::write(&path, format!("{}\n", reader.0.id())).unwrap();
    assert_invalid(&pid_file);
    fs::write(&path, content).unwrap();
    assert!(pid_file.stop(time_limit()).unwrap());
    reader.assert_unharmed();
}

fn a_worker_that_inherited_the_lock_is_not_the_daemon() {
    let scenario = daemon!().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let worker = run.worker();
    run.kill_daemon();
    assert!(run.pid_file().unwrap().locked);
    assert_invalid(&scenario.control());
    assert_eq!(run.living(), [worker]);
    run.kill(worker);
    assert_not_running(&scenario.control());
}

fn the_daemon_is_found_without_proc() {
    let scenario = daemon!();
    let run = scenario.start();
    with_own_mounts(|| {
        mount(&["-t", "tmpfs", "none"], Path::new("/proc"));
        let pid_file = scenario.control();
        assert_eq!(pid_file.running().unwrap(), Some(run.report().pid));
        assert!(pid_file.signal(0).unwrap());
        assert!(pid_file.stop(time_limit()).unwrap());
    });
    assert_not_running(&scenario.control());
}

fn a_daemon_finds_itself_and_never_signals_itself() {
    let scenario = daemon!();
    let run = scenario.start();
    let pid = run.report().pid;
    let path = scenario.pid_file_path().unwrap();
    let answers = run.answer(&control::Command::AskForDaemon(Bytes::from(path.as_path())));
    assert_eq!(answers[0], format!("Ok(Some({pid}))"));
    assert_eq!(answers[1], format!("Ok(Running {{ pid: {pid} }})"));
    assert_eq!(answers[2], answers[0]);
    for answer in &answers[3..] {
        assert!(answer.contains("this process is the daemon"), "{answer}");
    }
    // The daemon has not lost the lock by asking.
    assert_eq!(PidFile::at(&path).running().unwrap(), Some(pid));
    assert!(PidFile::at(&path).stop(time_limit()).unwrap());
}

fn a_pid_file_in_the_working_directory_is_found() {
    /// Set in the process that runs in that directory: threads share their working
    /// directory.
    const IS_THERE: &str = "TESTER_IS_IN_DIRECTORY";

    if std::env::var_os(IS_THERE).is_some() {
        let pid_file = PidFile::at("daemon.pid");
        assert!(pid_file.signal(0).unwrap());
        assert!(pid_file.stop(time_limit()).unwrap());
        return;
    }
    let scenario = daemon!();
    let run = scenario.start();
    let daemon = run.handle(run.report().pid);
    let case = case!(a_pid_file_in_the_working_directory_is_found);
    let mut again = suite::again(&case.name()).unwrap();
    again.current_dir(scenario.directory()).env(IS_THERE, "");
    again.assert().success();
    assert!(daemon.wait(Instant::now()).unwrap());
}

fn a_removed_directory_means_no_running_daemon() {
    let (scenario, directory) = scenario!().pid_file("run/daemon.pid").with_directory("run");
    let run = scenario.start();
    fs::remove_dir_all(directory).unwrap();
    let pid_file = scenario.control();
    assert_eq!(pid_file.running().unwrap(), None);
    assert!(!pid_file.signal(libc::SIGTERM).unwrap());
    assert!(!pid_file.stop(time_limit()).unwrap());
    run.observe();
}

fn a_directory_that_disappears_repeatedly_is_no_error() {
    const TRIES: u32 = 300;

    let scenario = scenario!().pid_file("run/daemon.pid");
    let (directory, away) = (scenario.create_directory("run"), scenario.path("away"));
    let run = scenario.start();
    let move_away_and_back = || {
        fs::rename(&directory, &away).unwrap();
        fs::rename(&away, &directory).unwrap();
    };
    let (there, gone, errors) = while_repeating(move_away_and_back, || {
        let pid_file = scenario.control();
        let deadline = Instant::now() + time_limit();
        let (mut there, mut gone, mut errors) = (0, 0, Vec::new());
        // Until the directory was often there and often gone.
        while there + gone < TRIES || there == 0 || gone == 0 {
            match pid_file.signal(0) {
                Ok(true) => there += 1,
                Ok(false) => gone += 1,
                Err(error) => errors.push(error),
            }
            if Instant::now() > deadline {
                break;
            }
        }
        (there, gone, errors)
    });
    assert!(errors.is_empty(), "{errors:?}");
    assert!(there > 0 && gone > 0, "{there} and {gone} times");
    run.observe();
}

fn every_error_names_the_path() {
    let (scenario, directory) = scenario!().with_directory("directory");
    let locked = scenario.path("locked");
    let _locked = Locked::with(&locked, b"one\n");
    let link = scenario.path("link");
    symlink("locked", &link).unwrap();
    let below_file = locked.join("further");
    for path in [directory, locked, link, below_file] {
        for error in errors_of_all(&PidFile::at(&path)) {
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
    }
}
