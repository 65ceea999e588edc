use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_launcher_with_other_threads_starts_a_program),
    case!(a_launcher_that_is_killed_leaves_no_program_whatever_its_threads_fork),
    case!(a_child_of_another_thread_does_not_keep_the_lock),
    case!(starts_succeed_while_sixteen_threads_take_all_locks),
    case!(no_process_allocates_memory_before_it_executes_the_program),
    case!(no_process_maps_memory_or_waits_for_a_lock, needs Faults),
];

fn a_launcher_with_other_threads_starts_a_program() {
    let run = spawned()
        .from_state(|state| state.extra_threads = 3)
        .start();
    assert!(run.initial().threads.is_none_or(|threads| threads == 4));
    run.assert_pid_file_held();
}

/// A child has a copy of the launcher's end of the channel, so that no end of file comes.
fn a_launcher_that_is_killed_leaves_no_program_whatever_its_threads_fork() {
    let line = [Step::Hold, Step::Write(5, "\n".to_owned())];
    let scenario = daemon!().spawn_awaiting(ProgramReadiness::NotificationFd(5), line);
    let run = scenario
        .from_state(|state| state.forking_thread = true)
        .launch();
    let program = run.handle(run.held().pid);
    run.kill_launcher();
    assert!(program.wait(Instant::now() + time_limit()).unwrap());
    assert!(!run.living().is_empty());
}

fn a_child_of_another_thread_does_not_keep_the_lock() {
    for _ in 0..5 {
        let scenario = spawned();
        let forking = scenario.clone();
        let run = forking
            .from_state(|state| state.forking_thread = true)
            .start();
        run.kill_daemon();
        assert!(!run.living().is_empty());
        scenario.start().assert_pid_file_held();
    }
}

/// The number of starts of [`starts_succeed_while_sixteen_threads_take_all_locks`].
const STARTS: &str = "TESTER_SPAWN_STARTS";

/// If another thread has a lock during fork(2), the lock stays locked in the child. A child
/// that takes it hangs.
fn starts_succeed_while_sixteen_threads_take_all_locks() {
    let starts = std::env::var(STARTS).map_or(50, |text| text.parse().expect("a number"));
    let mut scenario = spawned().from_state(|state| state.busy_threads = 16);
    scenario.config.program.starts_before = starts;
    let run = scenario.deadline(time_limit() * (starts / 25 + 3)).start();
    run.assert_pid_file_held();
}

/// The tester counts the calls of the allocator, and reports any call as a problem.
fn no_process_allocates_memory_before_it_executes_the_program() {
    spawned().start();
    let missing = || daemon!().spawn_program("/no/such/program", [""; 0]);
    missing().fail();
    missing().working_directory("missing").fail();
    missing().stdout(Stream::log("missing/log")).fail();
    missing()
        .stdin(Stream::DevNull)
        .stdout(Stream::log("log"))
        .fail();
    missing().pid_file("missing/pid").fail();
    missing().chroot("missing").fail();
    missing()
        .close_inherited_fds(control::RESERVED.collect::<Vec<_>>())
        .fail();
    missing().reset_signals().user_environment().fail();
    if sys::effective_user() == 0 {
        missing()
            .chroot("/")
            .user(UID)
            .group(GID)
            .chown_pid_file()
            .fail();
        missing().user(UID).group(GID).no_new_privileges().fail();
    } else {
        missing().user(UID).group(GID).fail();
    }
}

fn no_process_maps_memory_or_waits_for_a_lock() {
    use tester::trace::Role;

    let run = spawned().umask(0o022_u32).faults(&[]).start();
    let calls = run.first("the calls", select!(Traced));
    let is_of_child = |process: Role| matches!(process, Role::Intermediate | Role::Daemon);
    let calls = calls.iter().filter(|call| is_of_child(call.process));
    let names: Vec<_> = calls.map(|call| &*call.call).collect();
    assert!(names.contains(&"execve"), "{names:?}");
    for name in ["brk", "mmap", "munmap", "mremap", "madvise", "futex"] {
        assert!(!names.contains(&name), "{name}: {names:?}");
    }
}
