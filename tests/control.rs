//! A pid file says who runs only by its lock, and lets nobody but the daemon
//! itself be signalled.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt as _;
use daemonize2::PidFile;
use tester::config::{
    AnotherStart, Bytes, Deferral, Disposition, Entry, Foreground, Ids, Life, OpenDescriptor,
    ReadinessUse, Step,
};
use tester::control::{Command as Told, Message};
use tester::harness::{Until, mount, with_own_mounts};
use tester::report::Report;
use tester::sys::{self, ProcessHandle, Resource};
use tester::{Run, Scenario, case, scenario, suite};

fn main() -> ExitCode {
    suite(&[
        case!(nothing_runs_without_a_lock),
        case!(what_is_no_file_is_no_daemon),
        case!(a_live_daemon_is_found),
        case!(a_killed_daemon_is_not_running),
        case!(a_daemon_that_starts_would_block),
        case!(junk_under_a_lock_is_invalid),
        case!(a_stranger_under_a_lock_is_never_signalled),
        case!(the_first_process_is_no_daemon_because_a_file_names_it, needs OrdinaryUser, Linux),
        case!(without_a_list_of_processes_the_kernel_names_the_daemon_all_the_same, needs Root, Mounting),
        case!(a_worker_that_inherited_the_lock_is_not_the_daemon),
        case!(a_signal_reaches_the_daemon),
        case!(stop_asks_first),
        case!(stop_kills_what_does_not_listen),
        case!(stop_kills_a_daemon_that_has_removed_its_folder),
        case!(nobody_runs_in_a_folder_that_is_gone),
        case!(a_folder_that_comes_and_goes_is_no_failure),
        case!(a_lack_of_descriptors_makes_no_daemon_one_that_has_ended, needs Root, Linux),
        case!(stop_waits_for_what_takes_its_time_to_die),
        case!(stop_is_patient_beyond_what_the_clock_can_count_to),
        case!(stop_waits_for_the_lock),
        case!(stop_gives_up_on_a_lock_that_a_worker_holds),
        case!(stop_waits_for_a_daemon_that_starts),
        case!(stop_ends_a_daemon_that_does_not_get_ready_in_time),
        case!(a_daemon_that_starts_is_named_but_not_running),
        case!(a_start_may_follow_a_stop_at_once),
        case!(a_daemon_that_ends_as_it_is_signalled_is_not_running, needs Root),
        case!(a_pid_file_in_the_working_directory_is_found),
        case!(root_refuses_a_file_that_others_can_write, needs Root),
        case!(root_refuses_a_folder_that_others_can_write, needs Root),
        case!(root_refuses_what_an_access_list_lets_others_write, needs Root, Linux),
        case!(root_refuses_a_file_with_another_name, needs Root),
        case!(root_signals_for_another_user_only_that_users_processes, needs Root),
        case!(polling_never_fails_a_start),
        case!(a_poller_takes_neither_start_nor_end_for_junk),
        case!(a_clean_exit_removes_the_pid_file),
        case!(without_a_guard_a_harmless_file_is_left),
        case!(a_guard_that_is_dropped_early_keeps_the_single_instance),
        case!(a_file_that_a_worker_still_locks_does_not_say_that_a_daemon_is_starting, needs Root),
        case!(files_that_have_got_the_librarys_numbers_are_left_alone),
        case!(a_process_that_reads_the_file_is_never_taken_for_the_daemon),
        case!(root_that_may_not_trace_stops_a_daemon_that_has_changed_its_identity, needs Root, Linux),
        case!(a_daemon_may_ask_for_itself_and_never_signals_itself),
        case!(every_error_names_the_path),
        case!(a_guard_needs_a_pid_file),
        case!(a_file_that_may_not_be_removed_is_left_without_a_lock, needs Root),
        case!(a_file_that_a_jail_hides_is_left_without_a_lock, needs Root),
        case!(a_copy_of_the_process_removes_nothing),
        case!(a_copy_of_the_process_is_handed_no_guard),
        case!(a_daemon_started_by_a_daemon_has_nothing_of_its_pid_file),
        case!(a_daemon_started_by_one_with_a_guard_keeps_its_own_pid_file),
        case!(a_daemon_started_before_readiness_has_nothing_of_the_start),
        case!(a_second_start_in_the_foreground_leaves_the_first_its_pid_file),
        case!(a_path_that_leads_elsewhere_is_left_alone),
    ])
}

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon with a pid file.
fn daemon() -> Scenario {
    scenario!().pid_file("daemon.pid")
}

fn pid_file(scenario: &Scenario) -> PidFile {
    PidFile::at(scenario.pid_file_path().unwrap())
}

fn on_terminate(scenario: Scenario, disposition: Disposition) -> Scenario {
    scenario.from_state(|state| state.dispositions.push((libc::SIGTERM, disposition)))
}

fn handle(pid: u32) -> ProcessHandle {
    ProcessHandle::open(pid).unwrap().expect("a living process")
}

#[track_caller]
fn assert_fails<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind) -> io::Error {
    match result {
        Err(error) if error.kind() == kind => error,
        other => panic!("{other:?} instead of {kind:?}"),
    }
}

#[track_caller]
fn await_signal(run: &Run, signal: i32) {
    run.message("the signal", |frame| {
        (frame.message == Message::Signalled(signal)).then_some(())
    });
}

fn worker(run: &Run) -> u32 {
    run.message("the worker", |frame| match frame.message {
        Message::Worker(pid) => Some(pid),
        _ => None,
    })
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
        // Explicitly, since a child that is just being started shares it.
        let _ = sys::flock(self.0.as_fd(), libc::LOCK_UN);
    }
}

/// A process that has nothing to do with any of this.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").stdin(Stdio::null()).spawn().unwrap())
    }

    /// One that has a file open to read it.
    fn reading(path: &Path) -> Self {
        let mut command = Command::new("sleep");
        let file = File::open(path).unwrap();
        Self(command.arg("600").stdin(file).spawn().unwrap())
    }

    #[track_caller]
    fn assert_unharmed(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None);
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

// --- Who runs ----------------------------------------------------------------

#[track_caller]
fn assert_not_running(pid_file: &PidFile) {
    assert_eq!(pid_file.running().unwrap(), None);
    assert!(!pid_file.signal(0).unwrap());
    assert!(!pid_file.stop(Duration::ZERO).unwrap());
}

fn nothing_runs_without_a_lock() {
    let scenario = scenario!();
    let path = scenario.path("daemon.pid");
    assert_not_running(&PidFile::at(&path));
    assert_not_running(&PidFile::at(scenario.path("missing/daemon.pid")));
    // A number proves nothing, be it that of a living process.
    let mut stranger = Stranger::new();
    for content in [format!("{}\n", stranger.0.id()), String::new()] {
        fs::write(&path, &content).unwrap();
        assert_not_running(&PidFile::at(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    stranger.assert_unharmed();
}

fn what_is_no_file_is_no_daemon() {
    let scenario = daemon();
    let run = scenario.start();
    let folder = scenario.create_folder("folder");
    let fifo = scenario.path("fifo");
    sys::make_fifo(&fifo).unwrap();
    for path in [folder, fifo] {
        // Without waiting for anybody to open the other end.
        assert_fails(PidFile::at(&path).running(), ErrorKind::InvalidData);
        assert_fails(PidFile::at(&path).signal(0), ErrorKind::InvalidData);
    }
    // A link is not followed, even to the real one.
    let link = scenario.path("link");
    symlink(scenario.pid_file_path().unwrap(), &link).unwrap();
    PidFile::at(&link).running().unwrap_err();
    PidFile::at(&link).stop(Duration::ZERO).unwrap_err();
    run.observe();
    assert_fails(PidFile::at("nul\0").running(), ErrorKind::InvalidInput);
}

fn a_live_daemon_is_found() {
    let scenario = daemon();
    let run = scenario.start();
    let pid = run.report().pid;
    assert_eq!(pid_file(&scenario).running().unwrap(), Some(pid));
    assert!(pid_file(&scenario).signal(0).unwrap());
    // In the foreground, too.
    let scenario = daemon().foreground(Foreground::Yes);
    let run = scenario.launch();
    let pid = run.report().pid;
    assert_eq!(pid_file(&scenario).running().unwrap(), Some(pid));
    run.exit(0);
    assert_not_running(&pid_file(&scenario));
}

fn a_killed_daemon_is_not_running() {
    let scenario = daemon();
    let run = scenario.start();
    let pid = run.report().pid;
    run.kill_daemon();
    assert_not_running(&pid_file(&scenario));
    // What it has left is another start's to take over.
    let left = run.pid_file().unwrap();
    assert_eq!(left.bytes, format!("{pid}\n").as_bytes());
    let run = scenario.start();
    let pid = run.report().pid;
    assert_eq!(pid_file(&scenario).running().unwrap(), Some(pid));
}

fn a_daemon_that_starts_would_block() {
    let scenario = daemon().privileged_action([Step::Hold]);
    let run = scenario.launch();
    run.held();
    assert_fails(pid_file(&scenario).running(), ErrorKind::WouldBlock);
    assert_fails(
        pid_file(&scenario).signal(libc::SIGTERM),
        ErrorKind::WouldBlock,
    );
    run.proceed();
    run.launcher().assert().success();
    let pid = run.report().pid;
    assert_eq!(pid_file(&scenario).running().unwrap(), Some(pid));
}

fn junk_under_a_lock_is_invalid() {
    let scenario = scenario!();
    let mut stranger = Stranger::new();
    let pid = stranger.0.id();
    let with_a_stranger = [
        format!("{pid}"),
        format!("-{pid}\n"),
        format!(" {pid}\n"),
        format!("{pid}\n{pid}\n"),
        format!("{pid} {pid}\n"),
    ];
    let long = "1".repeat(70_000);
    let numbers = [
        "\n",
        "0\n",
        "-1\n",
        "+1\n",
        "2147483648\n",
        "4294967295\n",
        "4294967297\n",
        "18446744073709551617\n",
        "one\n",
        "0x10\n",
        "\0\n",
        "\u{661}\n",
        &long,
    ];
    let texts = numbers
        .into_iter()
        .chain(with_a_stranger.iter().map(String::as_str));
    let contents = texts.map(str::as_bytes).chain([b"\xff\xfe\n".as_slice()]);
    // Each is looked at for a while.
    thread::scope(|scope| {
        for (number, content) in contents.enumerate() {
            let path = scenario.path(format!("{number}.pid"));
            scope.spawn(move || {
                let _locked = Locked::with(&path, content);
                let pid_file = PidFile::at(&path);
                assert_fails(pid_file.running(), ErrorKind::InvalidData);
                assert_fails(pid_file.signal(libc::SIGKILL), ErrorKind::InvalidData);
                let began = Instant::now();
                assert_fails(pid_file.stop(PATIENCE), ErrorKind::InvalidData);
                assert!(began.elapsed() < PATIENCE);
                assert!(fs::read(&path).unwrap() == content);
            });
        }
    });
    stranger.assert_unharmed();
    // Nothing at all is what a start looks like.
    let path = scenario.path("daemon.pid");
    let _locked = Locked::with(&path, b"");
    assert_fails(PidFile::at(&path).running(), ErrorKind::WouldBlock);
}

fn a_stranger_under_a_lock_is_never_signalled() {
    let scenario = scenario!();
    let path = scenario.path("daemon.pid");
    let mut stranger = Stranger::new();
    let content = format!("{}\n", stranger.0.id());
    let _locked = Locked::with(&path, content.as_bytes());
    let pid_file = PidFile::at(&path);
    assert_fails(pid_file.running(), ErrorKind::InvalidData);
    for signal in [0, libc::SIGTERM, libc::SIGKILL] {
        assert_fails(pid_file.signal(signal), ErrorKind::InvalidData);
    }
    assert_fails(pid_file.stop(Duration::ZERO), ErrorKind::InvalidData);
    stranger.assert_unharmed();
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
    // Nor is a daemon that has another file open.
    let run = daemon()
        .from_state(|state| {
            state.descriptors.push(OpenDescriptor {
                number: 50,
                path: "/".into(),
                close_on_exec: true,
            });
        })
        .start();
    let content = format!("{}\n", run.report().pid);
    fs::write(&path, content).unwrap();
    assert_fails(pid_file.stop(Duration::ZERO), ErrorKind::InvalidData);
    run.observe();
}

fn a_process_that_reads_the_file_is_never_taken_for_the_daemon() {
    let scenario = daemon();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    let pid_file = PidFile::at(&path);
    let mut reader = Stranger::reading(&path);
    assert_eq!(pid_file.running().unwrap(), Some(run.report().pid));
    // Not even if root itself has written its number.
    let content = fs::read(&path).unwrap();
    fs::write(&path, format!("{}\n", reader.0.id())).unwrap();
    assert_fails(pid_file.running(), ErrorKind::InvalidData);
    assert_fails(pid_file.signal(libc::SIGKILL), ErrorKind::InvalidData);
    assert_fails(pid_file.stop(Duration::ZERO), ErrorKind::InvalidData);
    fs::write(&path, content).unwrap();
    assert!(pid_file.stop(PATIENCE).unwrap());
    reader.assert_unharmed();
}

/// As in a container with Docker's default capabilities.
fn root_that_may_not_trace_stops_a_daemon_that_has_changed_its_identity() {
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    let scenario = daemon().user(65534).group(65534);
    let run = scenario.start();
    let pid = run.report().pid;
    thread::scope(|scope| {
        scope.spawn(|| {
            sys::drop_capability(CAP_SYS_PTRACE).unwrap();
            fs::read_link(format!("/proc/{pid}/cwd")).unwrap_err();
            let pid_file = pid_file(&scenario);
            assert_eq!(pid_file.running().unwrap(), Some(pid));
            assert!(pid_file.stop(PATIENCE).unwrap());
        });
    });
    run.wait_until_all_ended();
}

fn a_daemon_may_ask_for_itself_and_never_signals_itself() {
    let scenario = daemon();
    let run = scenario.start();
    let pid = run.report().pid;
    let path = scenario.pid_file_path().unwrap();
    let answers = run.answer(&Told::AskForDaemon(Bytes::from(path.as_path())));
    assert_eq!(answers[0], format!("Ok(Some({pid}))"));
    for answer in &answers[1..] {
        assert!(answer.contains("the daemon is this process"), "{answer}");
    }
    // It has not lost the lock by asking.
    assert_eq!(PidFile::at(&path).running().unwrap(), Some(pid));
    assert!(PidFile::at(&path).stop(PATIENCE).unwrap());
}

fn every_error_names_the_path() {
    let scenario = scenario!();
    let folder = scenario.create_folder("folder");
    let locked = scenario.path("locked");
    let _locked = Locked::with(&locked, b"one\n");
    let link = scenario.path("link");
    symlink("locked", &link).unwrap();
    for path in [folder.clone(), locked.clone(), link, locked.join("further")] {
        let pid_file = PidFile::at(&path);
        let errors = [
            pid_file.running().unwrap_err(),
            pid_file.signal(0).unwrap_err(),
            pid_file.stop(Duration::ZERO).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
    }
}

fn the_first_process_is_no_daemon_because_a_file_names_it() {
    let scenario = scenario!();
    let path = scenario.path("daemon.pid");
    let _locked = Locked::with(&path, b"1\n");
    let pid_file = PidFile::at(&path);
    assert_fails(pid_file.running(), ErrorKind::InvalidData);
    assert_fails(pid_file.stop(Duration::ZERO), ErrorKind::InvalidData);
}

fn without_a_list_of_processes_the_kernel_names_the_daemon_all_the_same() {
    let scenario = daemon();
    let run = scenario.start();
    with_own_mounts(|| {
        mount(&["-t", "tmpfs", "none"], Path::new("/proc"));
        let pid_file = pid_file(&scenario);
        assert_eq!(pid_file.running().unwrap(), Some(run.report().pid));
        assert!(pid_file.signal(0).unwrap());
        assert!(pid_file.stop(PATIENCE).unwrap());
    });
    assert_not_running(&pid_file(&scenario));
}

fn a_worker_that_inherited_the_lock_is_not_the_daemon() {
    let scenario = daemon().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let worker = worker(&run);
    run.kill_daemon();
    assert!(run.pid_file().unwrap().locked);
    assert_fails(pid_file(&scenario).running(), ErrorKind::InvalidData);
    assert_fails(
        pid_file(&scenario).signal(libc::SIGKILL),
        ErrorKind::InvalidData,
    );
    assert_fails(
        pid_file(&scenario).stop(Duration::ZERO),
        ErrorKind::InvalidData,
    );
    let pids = run.living();
    assert_eq!(pids, [worker]);
    run.kill(worker);
    assert_not_running(&pid_file(&scenario));
}

// --- Signals and the end -----------------------------------------------------

fn a_signal_reaches_the_daemon() {
    let scenario = daemon().from_state(|state| {
        state.dispositions.push((libc::SIGUSR1, Disposition::Tell));
    });
    let run = scenario.start();
    assert!(pid_file(&scenario).signal(libc::SIGUSR1).unwrap());
    await_signal(&run, libc::SIGUSR1);
    assert_fails(pid_file(&scenario).signal(10_000), ErrorKind::InvalidInput);
    run.observe();
}

fn stop_asks_first() {
    let scenario = on_terminate(daemon(), Disposition::TellAndExit);
    let run = scenario.start();
    let daemon = handle(run.report().pid);
    let began = Instant::now();
    assert!(pid_file(&scenario).stop(PATIENCE).unwrap());
    assert!(began.elapsed() < PATIENCE);
    assert!(daemon.wait(Instant::now()).unwrap());
    assert!(!run.pid_file().unwrap().locked);
    await_signal(&run, libc::SIGTERM);
    // It cannot be stopped twice.
    assert!(!pid_file(&scenario).stop(PATIENCE).unwrap());
}

fn stop_kills_what_does_not_listen() {
    for disposition in [Disposition::Ignore, Disposition::Tell] {
        let scenario = on_terminate(daemon(), disposition);
        let run = scenario.start();
        let daemon = handle(run.report().pid);
        // Enough for a busy machine to run its handler.
        let patience = Duration::from_secs(1);
        let began = Instant::now();
        assert!(pid_file(&scenario).stop(patience).unwrap());
        assert!(began.elapsed() >= patience);
        assert!(daemon.wait(Instant::now()).unwrap());
        if disposition == Disposition::Tell {
            await_signal(&run, libc::SIGTERM);
        }
        assert_not_running(&pid_file(&scenario));
    }
}

/// As a daemon may that was asked to end, and then takes long.
fn stop_kills_a_daemon_that_has_removed_its_folder() {
    let scenario = on_terminate(scenario!().pid_file("run/daemon.pid"), Disposition::Tell);
    let folder = scenario.create_folder("run");
    let run = scenario.start();
    let daemon = handle(run.report().pid);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| pid_file(&scenario).stop(Duration::from_secs(2)));
        await_signal(&run, libc::SIGTERM);
        fs::remove_dir_all(folder).unwrap();
        assert!(stopping.join().unwrap().unwrap());
    });
    assert!(daemon.wait(Instant::now()).unwrap());
}

fn nobody_runs_in_a_folder_that_is_gone() {
    let scenario = scenario!().pid_file("run/daemon.pid");
    let folder = scenario.create_folder("run");
    let run = scenario.start();
    fs::remove_dir_all(folder).unwrap();
    let pid_file = pid_file(&scenario);
    assert_eq!(pid_file.running().unwrap(), None);
    assert!(!pid_file.signal(libc::SIGTERM).unwrap());
    assert!(!pid_file.stop(PATIENCE).unwrap());
    run.observe();
}

fn a_folder_that_comes_and_goes_is_no_failure() {
    const TRIES: u32 = 300;

    let scenario = scenario!().pid_file("run/daemon.pid");
    let (folder, away) = (scenario.create_folder("run"), scenario.path("away"));
    let run = scenario.start();
    let over = AtomicBool::new(false);
    let (there, gone, errors) = thread::scope(|scope| {
        let _until = Until(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(&folder, &away).unwrap();
                fs::rename(&away, &folder).unwrap();
            }
        });
        let pid_file = pid_file(&scenario);
        let deadline = Instant::now() + PATIENCE;
        let (mut there, mut gone, mut errors) = (0, 0, Vec::new());
        // Until it was met often, both ways.
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

/// Of what is looked at in turn, each may be what there is no descriptor left for.
fn a_lack_of_descriptors_makes_no_daemon_one_that_has_ended() {
    /// How many are left, set where this runs.
    const LEFT: &str = "TESTER_DESCRIPTORS_LEFT";
    const MOST: usize = 6;

    if let Ok(left) = std::env::var(LEFT) {
        let left: usize = left.parse().unwrap();
        let pid_file = PidFile::at(std::env::var("TESTER_PID_FILE").unwrap());
        sys::limit(Resource::Descriptors, 64).unwrap();
        let mut all: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        all.truncate(all.len() - left);
        match pid_file.signal(0) {
            Ok(is_running) => assert!(is_running && left > 1),
            Err(error) => {
                let lack = io::Error::from_raw_os_error(libc::EMFILE).to_string();
                assert!(error.to_string().ends_with(&lack), "{error}");
                assert!(left < MOST, "{left} are not enough");
            }
        }
        return;
    }
    // Another user's, so that root asks whose the process is, too.
    let scenario = daemon().as_user(65534, 65534);
    let run = scenario.start();
    for left in 0..=MOST {
        let mut again =
            suite::again("a_lack_of_descriptors_makes_no_daemon_one_that_has_ended").unwrap();
        let path = scenario.pid_file_path().unwrap();
        again
            .env("TESTER_PID_FILE", path)
            .env(LEFT, left.to_string());
        again.assert().success();
    }
    run.observe();
}

fn stop_waits_for_what_takes_its_time_to_die() {
    // A process is gone when its memory is.
    let scenario =
        on_terminate(daemon(), Disposition::Ignore).privileged_action([Step::FillMemory(256)]);
    let run = scenario.start();
    let daemon = handle(run.report().pid);
    assert!(pid_file(&scenario).stop(Duration::ZERO).unwrap());
    assert!(daemon.wait(Instant::now()).unwrap());
}

fn stop_is_patient_beyond_what_the_clock_can_count_to() {
    let scenario = on_terminate(daemon(), Disposition::Tell);
    let run = scenario.start();
    let daemon = handle(run.report().pid);
    thread::scope(|scope| {
        let stop = scope.spawn(|| pid_file(&scenario).stop(Duration::MAX));
        await_signal(&run, libc::SIGTERM);
        let while_it_waits = Instant::now() + Duration::from_millis(100);
        assert!(!daemon.wait(while_it_waits).unwrap());
        run.exit(0);
        assert!(stop.join().unwrap().unwrap());
    });
}

fn stop_waits_for_the_lock() {
    let scenario = daemon().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let (worker, daemon) = (worker(&run), handle(run.report().pid));
    thread::scope(|scope| {
        let stop = scope.spawn(|| pid_file(&scenario).stop(PATIENCE));
        assert!(daemon.wait(Instant::now() + PATIENCE).unwrap());
        // As long as the lock is held it goes on waiting, while this looks for
        // a while for sense in a lock without a daemon.
        assert_fails(pid_file(&scenario).running(), ErrorKind::InvalidData);
        assert!(!stop.is_finished());
        run.kill(worker);
        assert!(stop.join().unwrap().unwrap());
    });
    assert_not_running(&pid_file(&scenario));
}

fn stop_gives_up_on_a_lock_that_a_worker_holds() {
    let scenario = daemon().privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    let (worker, daemon) = (worker(&run), handle(run.report().pid));
    let patience = Duration::from_millis(300);
    let began = Instant::now();
    assert_fails(pid_file(&scenario).stop(patience), ErrorKind::TimedOut);
    assert!(began.elapsed() >= patience);
    assert!(daemon.wait(Instant::now()).unwrap());
    let pids = run.living();
    assert_eq!(pids, [worker]);
}

fn stop_waits_for_a_daemon_that_starts() {
    let scenario = daemon().privileged_action([Step::Hold]);
    let run = scenario.launch();
    let daemon = handle(run.held().pid);
    let patience = Duration::from_millis(100);
    thread::scope(|scope| {
        let stop = scope.spawn(|| pid_file(&scenario).stop(PATIENCE));
        assert!(!daemon.wait(Instant::now() + patience).unwrap());
        run.proceed();
        assert!(stop.join().unwrap().unwrap());
    });
    assert!(daemon.wait(Instant::now()).unwrap());
    assert_not_running(&pid_file(&scenario));
}

/// Before its pid is written, and while it ignores SIGTERM.
fn stop_ends_a_daemon_that_does_not_get_ready_in_time() {
    let ignoring = daemon().from_state(|state| {
        state.dispositions = vec![(libc::SIGTERM, Disposition::Ignore)];
    });
    for scenario in [daemon(), ignoring] {
        let scenario = scenario.initialize([Step::Hold]);
        let run = scenario.launch();
        let daemon = handle(run.held().pid);
        assert!(run.pid_file().unwrap().bytes.is_empty());
        let patience = Duration::from_millis(100);
        let began = Instant::now();
        assert!(pid_file(&scenario).stop(patience).unwrap());
        assert!(began.elapsed() >= patience);
        assert!(daemon.wait(Instant::now()).unwrap());
        assert_eq!(run.launcher_error().kind, "DaemonExited");
        run.assert_nothing_left();
    }
}

fn a_daemon_that_starts_is_named_but_not_running() {
    let scenario = daemon().initialize([Step::Hold]);
    let run = scenario.launch();
    let pid = run.held().pid;
    let path = scenario.pid_file_path().unwrap();
    let pid_file = PidFile::at(&path);
    let error = assert_fails(pid_file.running(), ErrorKind::WouldBlock);
    let expected = format!("pid file {}: daemon {pid} is starting", path.display());
    assert_eq!(error.to_string(), expected);
    assert_fails(pid_file.signal(0), ErrorKind::WouldBlock);
    run.proceed();
    run.launcher().assert().success();
    assert_eq!(pid_file.running().unwrap(), Some(pid));
}

fn a_start_may_follow_a_stop_at_once() {
    let scenario = daemon();
    let mut run = scenario.start();
    for _ in 0..10 {
        let before = run.report().pid;
        assert!(pid_file(&scenario).stop(PATIENCE).unwrap());
        run = scenario.start();
        assert_ne!(run.report().pid, before);
    }
}

// --- Root's caution ----------------------------------------------------------

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Refused as root, though the daemon is found.
#[track_caller]
fn assert_refused(scenario: &Scenario, run: &Run) {
    let pid = run.report().pid;
    assert_eq!(pid_file(scenario).running().unwrap(), Some(pid));
    assert_fails(
        pid_file(scenario).signal(libc::SIGKILL),
        ErrorKind::PermissionDenied,
    );
    assert_fails(
        pid_file(scenario).stop(Duration::ZERO),
        ErrorKind::PermissionDenied,
    );
    run.observe();
}

/// However little is left of it by then. Root looks at it before it signals.
fn a_daemon_that_ends_as_it_is_signalled_is_not_running() {
    const NOBODY: u32 = 65534;
    const TIMES: usize = 50;
    let scenario = daemon().as_user(NOBODY, NOBODY);
    for _ in 0..TIMES {
        let run = scenario.start();
        let pid = run.report().pid;
        let pid_file = pid_file(&scenario);
        thread::scope(|scope| {
            let signals = scope.spawn(|| {
                while pid_file.signal(0)? {}
                io::Result::Ok(())
            });
            run.kill(pid);
            signals.join().unwrap().unwrap();
        });
        assert_not_running(&pid_file);
    }
}

fn a_pid_file_in_the_working_directory_is_found() {
    /// Set where this runs in that directory, which all threads share.
    const IS_THERE: &str = "TESTER_IS_IN_FOLDER";

    if std::env::var_os(IS_THERE).is_some() {
        let pid_file = PidFile::at("daemon.pid");
        assert!(pid_file.signal(0).unwrap());
        assert!(pid_file.stop(PATIENCE).unwrap());
        return;
    }
    let scenario = daemon();
    let run = scenario.start();
    let daemon = handle(run.report().pid);
    let mut again = suite::again("a_pid_file_in_the_working_directory_is_found").unwrap();
    again.current_dir(scenario.folder()).env(IS_THERE, "");
    again.assert().success();
    assert!(daemon.wait(Instant::now()).unwrap());
}

fn root_refuses_a_file_that_others_can_write() {
    let scenario = daemon();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    set_mode(&path, 0o646);
    assert_refused(&scenario, &run);
    // Root's group is no other.
    set_mode(&path, 0o664);
    assert!(pid_file(&scenario).signal(0).unwrap());
    chown(&path, None, Some(65534)).unwrap();
    assert_refused(&scenario, &run);
    set_mode(&path, 0o644);
    assert!(pid_file(&scenario).stop(PATIENCE).unwrap());
}

fn root_refuses_a_folder_that_others_can_write() {
    let scenario = daemon();
    let run = scenario.start();
    set_mode(scenario.folder(), 0o757);
    assert_refused(&scenario, &run);
    chown(scenario.folder(), None, Some(65534)).unwrap();
    set_mode(scenario.folder(), 0o775);
    assert_refused(&scenario, &run);
    // The sticky bit keeps them from replacing the file.
    set_mode(scenario.folder(), 0o1777);
    assert!(pid_file(&scenario).signal(0).unwrap());
    set_mode(scenario.folder(), 0o755);
    assert!(pid_file(&scenario).stop(PATIENCE).unwrap());
}

/// In the mode it looks as if root's group could write, and nobody else.
fn root_refuses_what_an_access_list_lets_others_write() {
    let scenario = daemon();
    let run = scenario.start();
    let path = scenario.pid_file_path().unwrap();
    sys::give_access_to(&path, 65534).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o775
    );
    assert_refused(&scenario, &run);
    // Then the list may say what it likes.
    set_mode(&path, 0o755);
    assert!(pid_file(&scenario).signal(0).unwrap());
    drop(run);
    let scenario = daemon();
    let run = scenario.start();
    sys::give_access_to(scenario.folder(), 65534).unwrap();
    assert_refused(&scenario, &run);
}

/// Who may make links in a folder may call one daemon's pid file another's.
fn root_refuses_a_file_with_another_name() {
    let scenario = daemon();
    let run = scenario.start();
    fs::hard_link(scenario.pid_file_path().unwrap(), scenario.path("link")).unwrap();
    assert_refused(&scenario, &run);
    fs::remove_file(scenario.path("link")).unwrap();
    assert!(pid_file(&scenario).stop(PATIENCE).unwrap());
}

fn root_signals_for_another_user_only_that_users_processes() {
    const NOBODY: u32 = 65534;
    // Its folder, its process.
    let scenario = daemon().as_user(NOBODY, NOBODY);
    let run = scenario.start();
    assert!(pid_file(&scenario).signal(0).unwrap());
    assert!(pid_file(&scenario).stop(PATIENCE).unwrap());
    run.wait_until_all_ended();
    // Its folder, but root's process, or in part.
    let scenario = daemon();
    let run = scenario.start();
    chown(scenario.folder(), Some(NOBODY), None).unwrap();
    assert_refused(&scenario, &run);
    for uid in [
        [NOBODY, NOBODY, 0],
        [0, NOBODY, NOBODY],
        [NOBODY, NOBODY, NOBODY - 1],
    ] {
        let scenario = daemon().as_user(NOBODY, NOBODY).from_state(|state| {
            state.ids = Some(Ids {
                uid,
                ..Ids::user(NOBODY, NOBODY)
            });
        });
        let run = scenario.start();
        assert_refused(&scenario, &run);
    }
    // Root's folder, but its file.
    let scenario = daemon().chown_pid_file_user(NOBODY);
    let run = scenario.start();
    assert_refused(&scenario, &run);
    let run = scenario.user(NOBODY).group(NOBODY).pid_file("other.pid");
    let (scenario, run) = (run.clone(), run.start());
    assert!(pid_file(&scenario).signal(0).unwrap());
    assert!(pid_file(&scenario).stop(PATIENCE).unwrap());
    run.wait_until_all_ended();
}

// --- Polling -----------------------------------------------------------------

/// Starts and ends a daemon again and again while two pollers ask without
/// pause. Returns the failed starts, and the answers that were errors.
fn poll_while_daemons_come_and_go(starts: usize) -> (Vec<String>, Vec<io::Error>) {
    let scenario = daemon();
    let over = AtomicBool::new(false);
    let poll = || {
        let pid_file = pid_file(&scenario);
        let (mut found, mut errors) = (0, Vec::new());
        while !over.load(Ordering::Relaxed) {
            match pid_file.running() {
                Ok(pid) => found += usize::from(pid.is_some()),
                Err(error) => errors.push(error),
            }
        }
        assert!(found > 0);
        errors
    };
    let start_and_end = |number| {
        let run = scenario.launch();
        if !run.launcher().output.status.success() {
            return Some(run.account());
        }
        run.report();
        // Every other one leaves its pid behind.
        if number % 2 == 0 {
            run.exit(0);
        } else {
            run.kill_daemon();
        }
        None
    };
    thread::scope(|scope| {
        let pollers = [scope.spawn(poll), scope.spawn(poll)];
        let failed = (0..starts).filter_map(start_and_end).collect();
        over.store(true, Ordering::Relaxed);
        let errors = pollers.map(|poller| poller.join().unwrap());
        (failed, errors.into_iter().flatten().collect())
    })
}

fn polling_never_fails_a_start() {
    let (failed, _) = poll_while_daemons_come_and_go(50);
    assert!(failed.is_empty(), "{}", failed.concat());
}

fn a_poller_takes_neither_start_nor_end_for_junk() {
    let (_, errors) = poll_while_daemons_come_and_go(50);
    let surprises: BTreeSet<_> = errors
        .into_iter()
        .filter(|error| error.kind() != ErrorKind::WouldBlock)
        .map(|error| error.to_string())
        .collect();
    assert!(surprises.is_empty(), "{surprises:#?}");
}

// --- Removal -----------------------------------------------------------------

fn guarded(mut scenario: Scenario) -> Scenario {
    scenario.config.guard_pid_file = true;
    scenario
}

#[track_caller]
fn await_guard(run: &Run) -> bool {
    run.message("the guard", |frame| match frame.message {
        Message::Guarded(guarded) => Some(guarded),
        _ => None,
    })
}

fn a_clean_exit_removes_the_pid_file() {
    let deferral = Deferral::new([], ReadinessUse::Ready);
    let cases = [
        daemon(),
        daemon().entry(Entry::Execute),
        daemon().foreground(Foreground::Yes),
        daemon().deferred_readiness(deferral),
        daemon().life(Life::Exit(0)),
    ];
    for scenario in cases.map(guarded) {
        let run = scenario.launch();
        assert!(await_guard(&run), "{}", run.account());
        if scenario.config.life == Life::UntilTold {
            assert!(run.pid_file().unwrap().locked);
            run.exit(0);
        }
        run.wait_until_all_ended();
        assert_eq!(run.pid_file(), None);
    }
    // A relative path is one from the daemon's working directory.
    let scenario = guarded(daemon());
    let folder = scenario.create_folder("home");
    let run = scenario.working_directory(folder).start();
    assert!(await_guard(&run) && run.pid_file().is_some());
    run.exit(0);
    assert_eq!(run.pid_file(), None);
}

fn a_guard_that_is_dropped_early_keeps_the_single_instance() {
    let scenario = guarded(daemon());
    let run = scenario.start();
    assert!(await_guard(&run));
    let before = run.pid_file();
    run.answer(&Told::DropGuard);
    assert_eq!(run.pid_file(), before);
    let second = daemon().pid_file(scenario.pid_file_path().unwrap());
    let error = second.launch().launcher_error();
    assert_eq!(error.running_pid, Some(run.report().pid));
    run.exit(0);
    assert_eq!(run.pid_file(), None);
}

/// A worker still has the lock when the guard would have removed the file.
fn a_file_that_a_worker_still_locks_does_not_say_that_a_daemon_is_starting() {
    let scenario = guarded(daemon()).user(65534).group(65534);
    let scenario = scenario.privileged_action([Step::ForkWorker]);
    let run = scenario.start();
    assert!(await_guard(&run));
    let worker = worker(&run);
    run.tell(&Told::Exit(0));
    assert!(
        handle(run.report().pid)
            .wait(Instant::now() + PATIENCE)
            .unwrap()
    );
    let error = assert_fails(pid_file(&scenario).running(), ErrorKind::InvalidData);
    assert!(
        error
            .to_string()
            .contains("a worker of a daemon that has ended"),
        "{error}"
    );
    run.kill(worker);
    assert_not_running(&pid_file(&scenario));
}

fn files_that_have_got_the_librarys_numbers_are_left_alone() {
    for scenario in [
        guarded(daemon()),
        guarded(daemon()).foreground(Foreground::Yes),
    ] {
        let run = scenario.launch();
        assert!(await_guard(&run));
        let folder = scenario.create_folder("data");
        run.answer(&Told::ReplaceDescriptors(Bytes::from(folder.as_path())));
        run.exit(0);
        let mut files = 0;
        for entry in fs::read_dir(folder).unwrap() {
            assert_eq!(fs::read(entry.unwrap().path()).unwrap(), b"precious\n");
            files += 1;
        }
        assert!(files > 10, "{files}");
        assert!(run.pid_file().is_some_and(|file| !file.locked));
    }
}

fn without_a_guard_a_harmless_file_is_left() {
    let scenario = daemon();
    let run = scenario.start();
    let content = format!("{}\n", run.report().pid);
    run.exit(0);
    let left = run.pid_file().unwrap();
    assert_eq!(
        (left.bytes.as_slice(), left.locked),
        (content.as_bytes(), false)
    );
    assert_not_running(&pid_file(&scenario));
    scenario.start();
}

fn a_guard_needs_a_pid_file() {
    let run = guarded(scenario!()).start();
    assert!(!await_guard(&run));
    run.exit(0);
}

fn a_file_that_may_not_be_removed_is_left_without_a_lock() {
    let scenario = guarded(daemon()).user(65534).group(65534);
    let run = scenario.start();
    assert!(await_guard(&run));
    let before = run.pid_file().unwrap();
    run.exit(0);
    let left = run.pid_file().unwrap();
    assert!(left.bytes == before.bytes && !left.locked, "{left:?}");
    assert_not_running(&pid_file(&scenario));
    scenario.start();
}

fn a_file_that_a_jail_hides_is_left_without_a_lock() {
    let scenario = guarded(daemon());
    let jail = scenario.create_folder("jail");
    // Within the jail, something else is at the same path.
    let inside = jail.join(scenario.folder().strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("daemon.pid"), "another's\n").unwrap();
    let run = scenario.chroot(&jail).start();
    assert!(await_guard(&run));
    let before = run.pid_file().unwrap();
    run.exit(0);
    let left = run.pid_file().unwrap();
    assert!(left.bytes == before.bytes && !left.locked, "{left:?}");
    let there = fs::read_to_string(inside.join("daemon.pid")).unwrap();
    assert_eq!(there, "another's\n");
}

#[track_caller]
fn assert_copy_removes_nothing(run: &Run) {
    let before = run.pid_file();
    run.tell(&Told::DropGuardInCopy);
    run.message("the copy's end", |frame| {
        (frame.message == Message::CopyDroppedGuard).then_some(())
    });
    assert_eq!(run.pid_file(), before);
    assert!(before.is_some_and(|file| file.locked && !file.bytes.is_empty()));
}

fn a_copy_of_the_process_removes_nothing() {
    let run = guarded(daemon()).start();
    assert!(await_guard(&run));
    assert_copy_removes_nothing(&run);
    run.exit(0);
    assert_eq!(run.pid_file(), None);
}

fn a_copy_of_the_process_is_handed_no_guard() {
    let run = daemon().start();
    assert_copy_removes_nothing(&run);
}

/// Every way to start a daemon from a daemon.
fn other_starts() -> impl Iterator<Item = AnotherStart> {
    let pid_files = [None, Some(Bytes::from("other.pid"))];
    let by_whom = [false, true].map(|in_worker| pid_files.clone().map(|file| (in_worker, file)));
    by_whom
        .into_iter()
        .flatten()
        .flat_map(|(in_worker, pid_file)| {
            [false, true].map(|close_inherited_fds| AnotherStart {
                pid_file: pid_file.clone(),
                close_inherited_fds,
                foreground: false,
                in_worker,
                by_start: false,
            })
        })
}

#[track_caller]
fn assert_has_not(report: &Report, path: &Path) {
    let descriptors = report.descriptors.as_ref().unwrap();
    let has = descriptors.iter().any(|one| one.is_file(path));
    assert!(!has, "{descriptors:?}");
}

#[track_caller]
fn assert_locked_by(path: &Path, pid: u32) {
    assert_eq!(PidFile::at(path).running().unwrap(), Some(pid));
}

fn a_daemon_started_by_a_daemon_has_nothing_of_its_pid_file() {
    for start in other_starts() {
        let scenario = daemon();
        let path = scenario.pid_file_path().unwrap();
        let run = scenario.start();
        run.tell(&Told::StartAnother(start));
        let other = run.observed();
        assert_has_not(&other, &path);
        assert_locked_by(&path, run.report().pid);
        run.kill_daemon();
        // The other one lives on, and is in nobody's way.
        let next = scenario.start();
        assert_locked_by(&path, next.report().pid);
        run.handle(other.pid).kill(0).unwrap();
    }
}

fn a_daemon_started_by_one_with_a_guard_keeps_its_own_pid_file() {
    for start in other_starts().filter(|start| start.pid_file.is_some()) {
        let scenario = guarded(daemon());
        let run = scenario.start();
        assert!(await_guard(&run));
        run.tell(&Told::StartAnother(start));
        // It has dropped its copy of the guard.
        let other = run.observed();
        assert_locked_by(&scenario.path("other.pid"), other.pid);
        assert_locked_by(&scenario.pid_file_path().unwrap(), run.report().pid);
    }
}

fn a_daemon_started_before_readiness_has_nothing_of_the_start() {
    for start in other_starts() {
        let mut deferral = Deferral::new([], ReadinessUse::Ready);
        deferral.in_another = Some(start.clone());
        let scenario = daemon().deferred_readiness(deferral);
        let path = scenario.pid_file_path().unwrap();
        let run = scenario.start();
        // It has dropped its copy of the readiness.
        let other = run.observed();
        assert_has_not(&other, &path);
        let own = usize::from(start.pid_file.is_some());
        if start.close_inherited_fds {
            assert_eq!(other.descriptor_numbers().len(), 3 + own);
        }
        if own == 1 {
            assert_locked_by(&scenario.path("other.pid"), other.pid);
        }
        assert_locked_by(&path, run.report().pid);
    }
}

fn a_second_start_in_the_foreground_leaves_the_first_its_pid_file() {
    for scenario in [daemon(), guarded(daemon())] {
        for mut start in other_starts().filter(|start| !start.in_worker) {
            start.foreground = true;
            let with_own = start.pid_file.is_some();
            let run = scenario.start();
            let pid = run.report().pid;
            run.tell(&Told::StartAnother(start));
            assert_eq!(run.observed().pid, pid);
            assert_locked_by(&scenario.pid_file_path().unwrap(), pid);
            if with_own {
                assert_locked_by(&scenario.path("other.pid"), pid);
            }
            run.kill_daemon();
        }
    }
}

fn a_path_that_leads_elsewhere_is_left_alone() {
    let scenario = guarded(daemon());
    let run = scenario.start();
    assert!(await_guard(&run));
    let (path, moved) = (scenario.pid_file_path().unwrap(), scenario.path("moved"));
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "another's\n").unwrap();
    let before = fs::read(&moved).unwrap();
    run.exit(0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "another's\n");
    assert_eq!(fs::read(&moved).unwrap(), before);
}
