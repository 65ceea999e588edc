//! The observer shows another process as it is. Each case makes a process with known values, and
//! looks at it from outside. A value that the platform does not show is missing.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitCode, Stdio};

use tester::observe;
use tester::prelude::*;
use tester::report::{AccessMode, Descriptor, FileType, IdTriple, SignalSet, Terminal};
use tester::sys::ProcessHandle;
use tester::{Need, suite};

fn main() -> ExitCode {
    suite(&[
        case!(a_process_is_found_by_its_id),
        case!(a_process_that_has_ended_is_a_zombie_until_it_is_reaped),
        case!(the_processes_of_a_case_are_found),
        case!(the_processes_of_another_case_are_not_found),
        case!(the_umask_is_seen),
        case!(the_ids_and_groups_are_seen, needs Root),
        case!(the_working_directory_is_seen, needs VisibleFiles),
        case!(another_root_directory_is_seen, needs Root, VisibleFiles),
        case!(the_session_is_seen),
        case!(the_terminal_is_seen, needs Terminals),
        case!(the_threads_are_counted),
        case!(the_signals_are_seen),
        case!(no_new_privs_is_seen, needs NoNewPrivileges),
        case!(every_descriptor_is_seen, needs VisibleFiles),
        case!(the_flags_of_a_file_are_seen, needs VisibleFiles),
        case!(the_files_of_pipes_and_sockets_are_not_made_up, needs VisibleFiles),
        case!(close_on_exec_is_seen, needs VisibleFiles),
        case!(a_lock_is_seen, needs VisibleFiles),
        case!(a_view_that_agrees_has_no_differences),
        case!(a_view_with_another_value_differs, needs VisibleFiles),
        case!(a_promised_field_that_is_missing_is_a_difference),
        case!(a_value_that_only_one_view_has_is_no_difference, needs VisibleFiles),
    ])
}

/// What the platform shows of a field with this value.
fn shown<T>(field: &str, value: T) -> Option<T> {
    (!observe::UNSEEN.contains(&field)).then_some(value)
}

/// A launcher with this state, whose daemon waits in its privileged action.
fn held(change: impl FnOnce(&mut InitialState)) -> Run {
    let scenario = scenario!().from_state(change);
    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    run
}

/// The launcher from outside.
fn seen(run: &Run) -> Report {
    run.outside(run.launcher_pid())
}

/// A process that ends when its standard input does.
struct Cat(Child);

impl Cat {
    /// The process has these descriptors besides the standard streams. This process has none with
    /// such a number, which the next would replace.
    fn with(descriptors: &[(OwnedFd, i32)]) -> Self {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        for (descriptor, number) in descriptors {
            sys::pass_descriptor(&mut command, descriptor.as_fd(), *number);
        }
        let mut child = command.spawn().unwrap();
        // Its loader has closed its files by the time when it answers.
        let mut answer = [0];
        child.stdin.as_mut().unwrap().write_all(b".").unwrap();
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut answer)
            .unwrap();
        Self(child)
    }

    fn seen(&self) -> Report {
        observe::outside(self.0.id()).unwrap()
    }

    fn descriptor(&self, number: i32) -> Descriptor {
        let seen = self.seen();
        let found = seen.descriptor(number).cloned();
        found.unwrap_or_else(|| panic!("{number} is not open: {seen:?}"))
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn a_process_is_found_by_its_id() {
    let cat = Cat::with(&[]);
    let found = observe::process(cat.0.id()).unwrap().unwrap();
    assert_eq!(found.pid, cat.0.id());
    assert_eq!(found.ppid, std::process::id());
    assert_eq!(found.pgid, sys::process_group(std::process::id()).unwrap());
    assert!(!found.is_zombie(), "{found:?}");
}

fn a_process_that_has_ended_is_a_zombie_until_it_is_reaped() {
    let mut child = Command::new("true").spawn().unwrap();
    let handle = ProcessHandle::open(child.id()).unwrap().unwrap();
    assert!(handle.wait(Instant::now() + time_limit()).unwrap());
    let found = observe::process(child.id()).unwrap();
    assert!(found.unwrap().is_zombie());
    child.wait().unwrap();
    assert_eq!(observe::process(child.id()).unwrap(), None);
}

fn the_processes_of_a_case_are_found() {
    let run = held(|_| {});
    let daemon = run.held();
    let mut living = run.living();
    living.sort_unstable();
    let mut known = [run.launcher_pid(), daemon.ppid, daemon.pid];
    known.sort_unstable();
    assert_eq!(living, known);
}

fn the_processes_of_another_case_are_not_found() {
    let [one, other] = [held(|_| {}), held(|_| {})];
    assert!(!one.living().contains(&other.launcher_pid()));
}

fn the_umask_is_seen() {
    for umask in [0o123, 0o077] {
        let run = held(|state| state.umask = Some(umask));
        assert_eq!(seen(&run).umask, shown("umask", umask));
    }
}

fn the_ids_and_groups_are_seen() {
    let ids = Ids {
        uid: [1, 2, 2],
        gid: [4, 5, 6],
        groups: Some(vec![9, 8]),
    };
    let run = held(|state| state.ids = Some(ids));
    let seen = seen(&run);
    let triple = |[real, effective, saved]: [u32; 3]| {
        Some(IdTriple {
            real,
            effective,
            saved: Some(saved),
        })
    };
    assert_eq!(seen.uid, triple([1, 2, 2]));
    assert_eq!(seen.gid, triple([4, 5, 6]));
    let mut groups = vec![8, 9];
    groups.splice(0..0, sys::EFFECTIVE_GID_IS_LISTED.then_some(5));
    assert_eq!(seen.groups_with_gid(), Some(groups));
}

fn the_working_directory_is_seen() {
    let scenario = scenario!();
    let directory = scenario.create_directory("directory");
    let scenario = scenario
        .from_state(|state| state.working_directory = Some(Bytes::from(directory.as_path())))
        .privileged_action([Step::Hold]);
    let run = scenario.launch();
    run.held();
    let seen = seen(&run);
    assert_eq!(seen.working_directory, Place::of(&directory).ok());
    assert_eq!(seen.root, Place::of("/".as_ref()).ok());
}

fn another_root_directory_is_seen() {
    let scenario = scenario!();
    let root = scenario.create_directory("root");
    let run = scenario.chroot(root.as_path()).start();
    let seen = run.outside(run.report().pid);
    assert_eq!(seen.root, Place::of(&root).ok());
}

fn the_session_is_seen() {
    let leader = held(|state| state.session = Session::Leader);
    let pid = leader.launcher_pid();
    assert_eq!((seen(&leader).sid, seen(&leader).pgid), (Some(pid), pid));
    assert_eq!(seen(&leader).ppid, std::process::id());
    // The intermediate leads the session of the daemon.
    let daemon = leader.held();
    for pid in [daemon.pid, daemon.ppid] {
        let seen = leader.outside(pid);
        assert_eq!((seen.sid, seen.pgid), (Some(daemon.ppid), daemon.ppid));
    }
}

fn the_terminal_is_seen() {
    let with = held(|state| state.session = Session::LeaderWithTerminal);
    let another = held(|state| state.session = Session::LeaderWithTerminal);
    let [one, other] = [seen(&with).terminal, seen(&another).terminal];
    assert!(matches!(one, Some(Terminal::Device(_))), "{one:?}");
    assert_ne!(one, other);
    let without = held(|state| state.session = Session::Leader);
    assert_eq!(seen(&without).terminal, Some(Terminal::None));
}

fn the_threads_are_counted() {
    for threads in [0, 2] {
        let run = held(|state| state.extra_threads = threads);
        let threads_of_emulator = u32::from(Need::OwnThreads.unmet().is_some());
        assert_eq!(seen(&run).threads, Some(threads + 1 + threads_of_emulator));
    }
}

fn the_signals_are_seen() {
    // A launcher may still block every signal, as it does around its fork.
    let run = scenario!()
        .from_state(|state| {
            state.dispositions = vec![
                (libc::SIGHUP, Disposition::Ignore),
                (libc::SIGUSR1, Disposition::Handle),
            ];
            state.blocked = Blocked::These(vec![libc::SIGUSR2]);
        })
        .start();
    let seen = run.outside(run.report().pid);
    let set = |signals: &[i32]| signals.iter().copied().fold(SignalSet(0), SignalSet::with);
    // The runtime of Rust ignores SIGPIPE.
    let ignored = observe::ignored_signals(&seen).unwrap();
    for (signal, is_ignored) in [
        (libc::SIGHUP, true),
        (libc::SIGPIPE, true),
        (libc::SIGUSR1, false),
        (libc::SIGTERM, false),
    ] {
        assert_eq!(ignored.contains(signal), is_ignored, "{ignored:?}");
    }
    let caught = observe::caught_signals(&seen).unwrap();
    assert!(caught.contains(libc::SIGUSR1), "{caught:?}");
    assert!(!caught.contains(libc::SIGTERM), "{caught:?}");
    assert_eq!(
        seen.blocked_signals,
        shown("blocked_signals", set(&[libc::SIGUSR2]))
    );
}

fn no_new_privs_is_seen() {
    let plain = scenario!().start();
    let plain = plain.outside(plain.report().pid).no_new_privileges;
    assert_eq!(plain, Some(false));
    let run = scenario!().no_new_privileges().start();
    let seen = run.outside(run.report().pid);
    assert_eq!(seen.no_new_privileges, Some(true));
}

fn every_descriptor_is_seen() {
    let root = || OwnedFd::from(File::open("/").unwrap());
    let cat = Cat::with(&[(root(), 600), (root(), 650), (root(), 899)]);
    assert_eq!(cat.seen().descriptor_numbers(), [0, 1, 2, 600, 650, 899]);
}

fn the_flags_of_a_file_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let open = |options: &mut OpenOptions| OwnedFd::from(options.open(&path).unwrap());
    let appended = open(
        OpenOptions::new()
            .create(true)
            .append(true)
            .custom_flags(libc::O_NONBLOCK),
    );
    let written = open(OpenOptions::new().write(true));
    let both = open(OpenOptions::new().read(true).write(true));
    let null = File::open("/dev/null").unwrap();
    let cat = Cat::with(&[
        (appended, 600),
        (written, 601),
        (both, 602),
        (null.try_clone().unwrap().into(), 603),
        (File::open(directory.path()).unwrap().into(), 604),
    ]);
    for (number, access, append) in [
        (600, AccessMode::Write, true),
        (601, AccessMode::Write, false),
        (602, AccessMode::ReadWrite, false),
    ] {
        let file = cat.descriptor(number);
        assert!(file.is_file(&path), "{file:?}");
        assert_eq!((file.access, file.append), (access, append), "{number}");
        assert_eq!((file.nonblocking, file.special_device), (append, 0));
        assert_eq!(file.file_type, FileType::Regular);
    }
    let seen = cat.descriptor(603);
    assert!(seen.is_null_device(), "{seen:?}");
    assert_eq!(seen.special_device, null.metadata().unwrap().rdev());
    assert_eq!(seen.access, AccessMode::Read);
    let seen = cat.descriptor(604);
    assert_eq!(seen.file_type, FileType::Directory);
    assert!(seen.is_file(directory.path()), "{seen:?}");
}

fn the_files_of_pipes_and_sockets_are_not_made_up() {
    let (socket, _other) = UnixStream::pair().unwrap();
    let inode = |descriptor: RawFd| sys::descriptor_metadata(descriptor).unwrap().ino();
    let known = inode(socket.as_raw_fd());
    let cat = Cat::with(&[(socket.into(), 600)]);
    let input = cat.0.stdin.as_ref().unwrap();
    for (number, file_type, inode) in [
        (0, FileType::Pipe, inode(input.as_raw_fd())),
        (600, FileType::Socket, known),
    ] {
        let seen = cat.descriptor(number);
        assert_eq!(seen.file_type, file_type);
        assert_eq!(seen.inode, cfg!(target_os = "linux").then_some(inode));
    }
}

fn close_on_exec_is_seen() {
    let run = held(|state| {
        state.descriptors = vec![
            OpenDescriptor::of_root(60, true),
            OpenDescriptor::of_root(61, false),
        ];
    });
    let seen = seen(&run);
    for (number, is_set) in [(60, true), (61, false)] {
        let known = shown("close_on_exec", is_set);
        assert_eq!(seen.descriptor(number).unwrap().close_on_exec, known);
    }
}

fn a_lock_is_seen() {
    let mut files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    for file in &mut files {
        file.write_all(b"text").unwrap();
    }
    sys::flock(files[0].as_fd(), libc::LOCK_EX).unwrap();
    let [locked, other] = files
        .each_ref()
        .map(|file| file.try_clone().unwrap().into());
    let cat = Cat::with(&[(locked, 600), (other, 601)]);
    let is_locked = |number| cat.descriptor(number).locked;
    assert_eq!(is_locked(600), shown("locked", true));
    assert_eq!(is_locked(601), shown("locked", false));
    sys::flock(files[0].as_fd(), libc::LOCK_UN).unwrap();
    assert_eq!(is_locked(600), shown("locked", false));
}

/// The two views of a daemon.
fn views() -> [Report; 2] {
    let run = daemon!().start();
    let inside = run.observe();
    let outside = run.outside(inside.pid);
    [inside, outside]
}

fn a_view_that_agrees_has_no_differences() {
    let [inside, outside] = views();
    assert_eq!(observe::differences(&inside, &outside), [""; 0]);
}

fn a_view_with_another_value_differs() {
    type Change = fn(&mut Report);
    let changes: [(&str, Change); 9] = [
        ("ppid", |view| view.ppid += 1),
        ("sid", |view| view.sid = Some(view.pid)),
        ("uid", |view| view.uid.as_mut().unwrap().effective += 1),
        ("gid", |view| view.gid.as_mut().unwrap().effective += 1),
        ("groups", |view| view.groups.as_mut().unwrap().push(4_711)),
        ("terminal", |view| view.terminal = Some(Terminal::Device(1))),
        ("working_directory", |view| {
            view.working_directory.as_mut().unwrap().inode += 1;
        }),
        ("ignored_signals", |view| {
            let signals = view.ignored_signals.as_mut().unwrap();
            *signals = signals.with(libc::SIGQUIT);
        }),
        ("descriptors", |view| {
            view.descriptors.as_mut().unwrap()[0].append = true;
        }),
    ];
    let [inside, outside] = views();
    for (field, change) in changes {
        let mut changed = outside.clone();
        change(&mut changed);
        let found = observe::differences(&inside, &changed);
        let is_named = found.iter().any(|text| text.starts_with(field));
        assert!(is_named, "{field}: {found:?}");
    }
}

fn a_promised_field_that_is_missing_is_a_difference() {
    let [inside, mut outside] = views();
    outside.sid = None;
    let [found] = observe::differences(&inside, &outside).try_into().unwrap();
    let pgid = inside.pgid;
    assert_eq!(found, format!("sid: inside {pgid}, not seen outside"));
}

fn a_value_that_only_one_view_has_is_no_difference() {
    let [mut inside, mut outside] = views();
    inside.uid.as_mut().unwrap().saved = None;
    let seen = &mut outside.descriptors.as_mut().unwrap()[0];
    (seen.device, seen.inode, seen.close_on_exec, seen.locked) = (None, None, None, None);
    assert_eq!(observe::differences(&inside, &outside), [""; 0]);
}
