use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(checked_starts_refuse_another_thread, needs OwnThreads),
    case!(the_error_counts_all_threads_and_names_eight, needs Linux, OwnThreads),
    case!(unchecked_starts_accept_another_thread, needs OwnThreads),
    case!(a_joined_thread_is_not_counted),
    case!(a_single_thread_starts_if_the_kernel_counts_no_users_of_memory, needs CallFilters),
    case!(other_threads_are_refused_if_the_kernel_counts_no_users_of_memory, needs CallFilters),
    case!(a_start_succeeds_while_other_threads_take_the_librarys_locks),
];

fn multi_threaded(threads: &str) -> StartError {
    let text = format!(
        "cannot fork safely: the process has more than one thread: {threads}; \
         start the daemon first, and create threads and async runtimes afterwards \
         (#[tokio::main] creates them before)"
    );
    StartError::new("MultiThreaded", None, &text)
}

fn checked_starts_refuse_another_thread() {
    let names = if cfg!(target_os = "linux") {
        " (tester, tester)"
    } else {
        ""
    };
    let expected = multi_threaded(&format!("2{names}"));
    for entry in CHECKED {
        let scenario = daemon!().entry(entry);
        let scenario = scenario.from_state(|state| state.extra_threads = 1);
        assert_eq!(scenario.fail_in_launcher(), expected);
    }
}

fn the_error_counts_all_threads_and_names_eight() {
    let scenario = scenario!().entry(Entry::StartChecked);
    let scenario = scenario.from_state(|state| state.extra_threads = 99);
    let names = ["tester"; 8].join(", ");
    let expected = multi_threaded(&format!("100 ({names}, ...)"));
    assert_eq!(scenario.fail_in_launcher(), expected);
}

fn unchecked_starts_accept_another_thread() {
    for entry in [Entry::Start, Entry::Execute] {
        let scenario = scenario!().entry(entry);
        let run = scenario.from_state(|state| state.extra_threads = 1).start();
        assert!(run.initial().threads.is_none_or(|threads| threads == 2));
        assert!(run.report().threads.is_none_or(|threads| threads == 1));
    }
}

fn a_joined_thread_is_not_counted() {
    for entry in CHECKED {
        for _ in 0..10 {
            let scenario = scenario!().entry(entry);
            let scenario = scenario.from_state(|state| state.joined_threads = 8);
            scenario.start();
        }
    }
}

/// gVisor answers like this.
fn without_memory_user_count() -> Scenario {
    scenario!().from_state(|state| state.refused_calls = vec![(SystemCall::Unshare, libc::EINVAL)])
}

fn a_single_thread_starts_if_the_kernel_counts_no_users_of_memory() {
    for entry in CHECKED {
        without_memory_user_count().entry(entry).start();
    }
    // Options that other threads would hinder work, too.
    without_memory_user_count().no_new_privileges().start();
}

fn other_threads_are_refused_if_the_kernel_counts_no_users_of_memory() {
    for entry in CHECKED {
        let scenario = without_memory_user_count().from_state(|state| state.extra_threads = 1);
        assert_eq!(scenario.entry(entry).fail().kind, "MultiThreaded");
    }
}

/// fork(2) copies a locked lock, but not the thread that would unlock it.
fn a_start_succeeds_while_other_threads_take_the_librarys_locks() {
    for _ in 0..20 {
        let scenario = daemon!().entry(Entry::Execute);
        let run = scenario.from_state(|state| state.guard_takers = 4).start();
        run.observe();
    }
}
