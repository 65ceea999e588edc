//! What surrounds a start: sandboxes, namespaces, event loops, broken images. It
//! succeeds in full, or says what is in the way.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tester::config::{
    ChildrenNamespace, Deferral, Entry, EventQueue, Ids, ReadinessUse, Step, SupplementaryGroups,
    SystemCall, UserNamespace,
};
use tester::harness::DEADLINE;
use tester::{Scenario, case, scenario, subject, suite, sys};

fn main() -> ExitCode {
    suite(&[
        case!(execute_checked_refuses_an_event_queue, needs Linux),
        case!(the_other_entries_take_an_event_queue, needs Linux),
        case!(an_event_queue_is_no_hindrance_in_the_foreground, needs Linux),
        case!(a_daemon_that_asked_for_a_signal_at_its_parents_death_lives, needs Linux),
        case!(a_daemon_whose_fork_handler_asks_for_a_signal_at_its_parents_death_lives, needs Linux),
        case!(readiness_in_another_thread_outlives_the_parent, needs Linux),
        case!(the_first_process_of_a_namespace_does_not_start_a_daemon, needs Root, Mounting, Linux),
        case!(the_first_process_of_a_namespace_may_execute, needs Root, Mounting, Linux),
        case!(the_first_process_of_a_namespace_may_stay_in_the_foreground, needs Root, Mounting, Linux),
        case!(a_daemon_in_another_pid_namespace_is_refused, needs Root, Mounting, Linux),
        case!(a_kernel_that_counts_no_users_of_memory_lets_a_lone_thread_start, needs Linux),
        case!(a_kernel_that_counts_no_users_of_memory_refuses_other_threads, needs Linux),
        case!(a_null_device_that_is_something_else_is_refused, needs Root, Mounting, Linux),
        case!(a_directory_of_an_unmapped_user_is_one_of_no_stranger, needs Root, Linux, UserNamespaces),
        case!(numbers_alone_need_no_user_database, needs Root, Mounting, Linux),
        case!(a_process_is_ended_where_a_sandbox_refuses_pidfd_send_signal, needs Linux),
        case!(an_intermediate_is_ended_where_a_sandbox_refuses_pidfd_send_signal, needs Linux),
        case!(capset_is_not_needed_where_no_capability_is_left, needs Root, Linux),
        case!(a_capability_that_is_left_is_told_where_a_sandbox_refuses_capset, needs Root, Linux),
        case!(a_full_standard_output_does_not_outlast_the_startup_timeout, needs Linux),
    ])
}

const CHECKED: [Entry; 2] = [Entry::StartChecked, Entry::ExecuteChecked];

// --- Event queues ------------------------------------------------------------

/// io_uring may be switched off.
fn event_queues() -> impl Iterator<Item = (EventQueue, &'static str)> {
    let known = [
        (EventQueue::Epoll, "epoll"),
        (EventQueue::IoUring, "io_uring"),
    ];
    known
        .into_iter()
        .filter(|(queue, _)| *queue == EventQueue::Epoll || sys::open_event_queue(*queue).is_ok())
}

fn with_event_queue(queue: EventQueue) -> Scenario {
    scenario!()
        .pid_file("daemon.pid")
        .from_state(|state| state.event_queue = Some(queue))
}

fn execute_checked_refuses_an_event_queue() {
    for (queue, name) in event_queues() {
        let error = with_event_queue(queue).entry(Entry::ExecuteChecked).fail();
        assert_eq!(error.kind, "SharedEventQueue");
        assert!(error.text.contains(name), "{error}");
        assert!(error.text.contains("start_checked"), "{error}");
    }
}

/// Where one side ends, or the caller has promised that it is safe.
fn the_other_entries_take_an_event_queue() {
    for (queue, _) in event_queues() {
        for entry in [Entry::StartChecked, Entry::Start, Entry::Execute] {
            with_event_queue(queue).entry(entry).start();
        }
    }
}

fn an_event_queue_is_no_hindrance_in_the_foreground() {
    let scenario = with_event_queue(EventQueue::Epoll)
        .entry(Entry::ExecuteChecked)
        .foreground(tester::config::Foreground::Yes);
    let run = scenario.launch();
    assert_eq!(run.report().pid, run.launcher_pid());
}

// --- The death of the parent -------------------------------------------------

/// By the time that the launcher has ended the intermediate was reaped.
#[track_caller]
fn assert_lives(scenario: &Scenario) {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let arm = |scenario: &Scenario| match scenario.config.initial.parent_death_signal_at_fork {
            Some(_) => scenario
                .clone()
                .from_state(|state| state.parent_death_signal_at_fork = Some(signal)),
            None => scenario
                .clone()
                .initialize([Step::ArmParentDeathSignal(signal)]),
        };
        let run = arm(scenario).launch();
        run.launcher().assert().success();
        // It answers.
        let daemon = run.observe();
        assert_eq!(run.living(), [daemon.pid], "{}", run.account());
        assert_eq!(
            run.pid_file().expect("a pid file").bytes,
            format!("{}\n", daemon.pid).as_bytes()
        );
    }
}

fn a_daemon_that_asked_for_a_signal_at_its_parents_death_lives() {
    for entry in CHECKED {
        assert_lives(&scenario!().pid_file("daemon.pid").entry(entry));
    }
}

fn a_daemon_whose_fork_handler_asks_for_a_signal_at_its_parents_death_lives() {
    for entry in CHECKED {
        let scenario = scenario!().pid_file("daemon.pid").entry(entry);
        assert_lives(&scenario.from_state(|state| state.parent_death_signal_at_fork = Some(0)));
    }
}

fn readiness_in_another_thread_outlives_the_parent() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_thread = true;
    let scenario = scenario!().pid_file("daemon.pid");
    assert_lives(&scenario.deferred_readiness(deferral));
}

// --- Pid namespaces ----------------------------------------------------------

/// What a first process and its daemon say.
#[track_caller]
fn as_first_process(entry: &str) -> String {
    let output = Command::new(tester::tester!())
        .args([subject::START_AS_FIRST_PROCESS, entry])
        .stdin(Stdio::null())
        .output()
        .expect("run it");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn the_first_process_of_a_namespace_does_not_start_a_daemon() {
    let said = as_first_process("start");
    let text = "FirstProcess: cannot start a daemon from pid 1: its exit would end the daemon; \
                use foreground instead\n";
    assert_eq!(said, text);
}

fn the_first_process_of_a_namespace_may_execute() {
    let said = as_first_process("execute");
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines[0], "launcher: daemon 3", "{said}");
    assert!(lines[1..].contains(&"pid 3"), "{said}");
}

fn the_first_process_of_a_namespace_may_stay_in_the_foreground() {
    assert_eq!(as_first_process("foreground"), "pid 1\n");
}

fn a_daemon_in_another_pid_namespace_is_refused() {
    for (namespace, cause) in [
        (
            ChildrenNamespace::New,
            "the intermediate process is its first",
        ),
        (ChildrenNamespace::WithFirst, "the launcher has no pid"),
    ] {
        for entry in CHECKED {
            let scenario = scenario!()
                .pid_file("daemon.pid")
                .entry(entry)
                .from_state(|state| state.children_namespace = Some(namespace));
            let error = scenario.launch().launcher_error();
            assert_eq!(error.kind, "PidNamespace", "{error}");
            assert!(error.text.contains(cause), "{error}");
        }
    }
}

// --- Threads where nothing counts the users of memory --------------------------

/// As gVisor answers every process.
fn without_a_count() -> Scenario {
    scenario!().from_state(|state| state.refused_calls = vec![(SystemCall::Unshare, libc::EINVAL)])
}

fn a_kernel_that_counts_no_users_of_memory_lets_a_lone_thread_start() {
    for entry in CHECKED {
        without_a_count().entry(entry).start();
    }
    // What may not be done with other threads may be done here, too.
    without_a_count().no_new_privileges().start();
}

fn a_kernel_that_counts_no_users_of_memory_refuses_other_threads() {
    for entry in CHECKED {
        let scenario = without_a_count().from_state(|state| state.extra_threads = 1);
        assert_eq!(scenario.entry(entry).fail().kind, "MultiThreaded");
    }
}

// --- Images and databases ----------------------------------------------------

fn a_null_device_that_is_something_else_is_refused() {
    let scenario = scenario!();
    let file = scenario.path("null");
    fs::write(&file, "").expect("make a file");
    let pipe = scenario.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("run mkfifo")
            .success()
    );
    assert!(fs::metadata(&pipe).expect("a pipe").file_type().is_fifo());
    for covering in [
        file.as_path(),
        &pipe,
        "/dev/zero".as_ref(),
        "/dev/tty".as_ref(),
    ] {
        for entry in CHECKED {
            let scenario = scenario
                .clone()
                .entry(entry)
                .pid_file("daemon.pid")
                .from_state(|state| state.null_device = Some(covering.into()));
            let run = scenario.launch();
            let error = run.launcher_error();
            if entry.returns_in_both() {
                assert_eq!(run.daemon_error(), error);
                run.wait_until_all_ended();
            } else {
                run.assert_nothing_left();
            }
            // There is no terminal to be opened.
            let expected = match covering.ends_with("tty") {
                true => libc::ENXIO,
                false => libc::ENODEV,
            };
            assert_eq!(
                error.kind,
                format!("OpenDevnull({expected})"),
                "{covering:?}"
            );
            if expected == libc::ENODEV {
                let text = "cannot open /dev/null: it is not the null device";
                assert_eq!(error.text, text, "{covering:?}");
            }
        }
    }
    assert_eq!(fs::read(&file).expect("read it"), b"");
    // What is not needed need not be there.
    let kept = tester::config::Stream::Keep;
    let scenario = scenario.from_state(|state| state.null_device = Some(file.into()));
    let scenario = scenario
        .stdin(kept.clone())
        .stdout(kept.clone())
        .stderr(kept);
    let run = scenario.launch();
    run.report();
}

/// As /tmp and /run are root's in the initial user namespace, who has no number in one
/// that an ordinary user has made.
fn a_directory_of_an_unmapped_user_is_one_of_no_stranger() {
    let scenario = scenario!();
    let namespace = |scenario: &Scenario| {
        scenario.clone().from_state(|state| {
            state.ids = Some(Ids::user(7001, 7001));
            state.user_namespace = Some(UserNamespace {
                users: vec![[0, 7001, 1]],
                groups: vec![[0, 7001, 1]],
                denies_setgroups: true,
            });
        })
    };
    let directory = scenario.create_folder("shared");
    fs::set_permissions(&directory, Permissions::from_mode(0o1777)).expect("share it");
    let path = directory.join("daemon.pid");
    let run = namespace(&scenario)
        .pid_file(&path)
        .entry(Entry::StartChecked)
        .start();
    let content = format!("{}\n", run.report().pid);
    assert_eq!(fs::read(&path).expect("read it"), content.as_bytes());
    // Who may write there may replace the file.
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("open it");
    let other = directory.join("other.pid");
    let error = namespace(&scenario)
        .pid_file(other)
        .launch()
        .launcher_error();
    assert_eq!(error.kind, format!("OpenPidfile({})", libc::EPERM));
}

fn numbers_alone_need_no_user_database() {
    let scenario = scenario!();
    // Which no look-up can read.
    let folder = scenario.create_folder("etc");
    for file in ["passwd", "group"] {
        scenario.create_folder(format!("etc/{file}"));
    }
    fs::write(
        folder.join("nsswitch.conf"),
        "passwd: files\ngroup: files\n",
    )
    .expect("write it");
    let scenario = scenario
        .pid_file("daemon.pid")
        .user(7003)
        .group(7004)
        .chown_pid_file_user(7003)
        .chown_pid_file_group(7004)
        .from_state(|state| state.user_database = Some(folder.into()));
    for groups in [
        SupplementaryGroups::Only(vec![7005.into()]),
        SupplementaryGroups::Only(Vec::new()),
        SupplementaryGroups::Keep,
    ] {
        let run = scenario.clone().supplementary_groups(groups).start();
        assert!(run.report().uid.expect("its uid") == 7003);
        assert!(run.report().gid.expect("its gid") == 7004);
    }
    // By default the groups are those of the user's name.
    let error = scenario.launch().launcher_error();
    assert_eq!(error.kind, format!("LookUpUser({})", libc::EISDIR));
}

// --- Sandboxes ---------------------------------------------------------------

fn a_process_is_ended_where_a_sandbox_refuses_pidfd_send_signal() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let scenario = scenario!()
            .pid_file("daemon.pid")
            .privileged_action([Step::Hold])
            .from_state(|state| {
                state.refused_calls = vec![(SystemCall::PidfdSendSignal, errno)];
            });
        let run = scenario.launch();
        let held = run.held();
        // The launcher is left to end the daemon.
        sys::kill(held.ppid, libc::SIGKILL).expect("kill the intermediate");
        assert_eq!(run.launcher_error().kind, "IntermediateExited");
        run.assert_nothing_left();
    }
}

/// It is held up, so that the launcher ends it.
fn an_intermediate_is_ended_where_a_sandbox_refuses_pidfd_send_signal() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let scenario = scenario!()
            .pid_file("daemon.pid")
            .startup_timeout(Duration::from_millis(500))
            .privileged_action([Step::Hold])
            .from_state(|state| {
                state.refused_calls = vec![(SystemCall::PidfdSendSignal, errno)];
            });
        let run = scenario.launch();
        sys::kill(run.held().ppid, libc::SIGSTOP).expect("stop the intermediate");
        assert_eq!(run.launcher_error().kind, "StartupTimeout");
        run.assert_nothing_left();
    }
}

fn refusing_capset() -> Scenario {
    scenario!()
        .user(7003)
        .group(7004)
        .supplementary_groups(SupplementaryGroups::Only(Vec::new()))
        .from_state(|state| {
            state.refused_calls = vec![(SystemCall::Capset, libc::EPERM)];
        })
}

fn capset_is_not_needed_where_no_capability_is_left() {
    let run = refusing_capset().start();
    let sets = run.report().capabilities.expect("its capabilities");
    assert_eq!(
        (sets.effective, sets.permitted, sets.inheritable),
        (0, 0, 0)
    );
}

fn a_capability_that_is_left_is_told_where_a_sandbox_refuses_capset() {
    /// CAP_SETUID and CAP_SETGID of <linux/capability.h>.
    const MAY_CHANGE_IDS: u64 = 1 << 7 | 1 << 6;
    // Not root's: the kernel takes capabilities only from those who drop from root.
    let scenario = refusing_capset().from_state(|state| {
        state.ids = Some(Ids::user(7001, 7001));
        state.capabilities = Some(MAY_CHANGE_IDS);
        state.refused_calls = vec![(SystemCall::Capset, libc::EPERM)];
    });
    assert_eq!(scenario.fail().kind, "PrivilegesRetained");
}

// --- Output ------------------------------------------------------------------

fn a_full_standard_output_does_not_outlast_the_startup_timeout() {
    let mut child = Command::new(tester::tester!())
        .arg(subject::START_WITH_FULL_OUTPUT)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run it");
    let errors = BufReader::new(child.stderr.take().expect("it is piped"));
    let (said, hear) = mpsc::channel();
    thread::spawn(move || said.send(errors.lines().next()));
    let line = hear.recv_timeout(DEADLINE);
    // It may go on writing.
    drop(child.stdout.take());
    if line.is_err() {
        let _ = child.kill();
    }
    child.wait().expect("wait for it");
    let line = line
        .expect("it ends in time")
        .expect("a line")
        .expect("text");
    assert_eq!(
        line,
        "the daemon was not ready in time: standard output cannot be flushed: nobody reads it"
    );
}
