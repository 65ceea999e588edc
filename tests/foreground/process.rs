use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_process_stays_the_same),
    case!(false_means_in_the_background),
    case!(execute_returns_the_child),
    case!(the_signals_are_unchanged),
    case!(other_threads_are_accepted),
];

fn the_process_stays_the_same() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let (run, daemon) = in_foreground().entry(entry).serve();
        let initial = run.initial();
        assert_eq!(
            (daemon.pid, daemon.ppid, daemon.pgid, daemon.sid),
            (initial.pid, initial.ppid, initial.pgid, initial.sid)
        );
        assert_eq!(daemon.terminal, initial.terminal);
        assert_eq!(run.processes().len(), 1, "{}", run.diagnostics());
        run.exit(7);
        run.launcher().assert().code(7);
    }
}

fn false_means_in_the_background() {
    let run = scenario!().foreground(Foreground::No).start();
    run.report().assert_detached();
    assert_ne!(run.report().pid, run.launcher_pid());
}

fn execute_returns_the_child() {
    for entry in [Entry::Execute, Entry::ExecuteChecked] {
        let scenario = in_foreground().entry(entry);
        let steps = [Step::Add("value".to_owned())];
        let (run, _) = scenario.privileged_action(steps).serve();
        run.await_message(&Message::Result(vec!["value".to_owned()]));
        run.exit(0);
        let returned_twice = |message: &Message| matches!(message, Message::LauncherReturned(_));
        assert!(!run.has_sent(returned_twice));
    }
}

fn the_signals_are_unchanged() {
    let scenario = in_foreground()
        .on_signal(libc::SIGHUP, Disposition::Ignore)
        .on_signal(libc::SIGUSR1, Disposition::Handle)
        .from_state(|state| state.blocked = Blocked::These(vec![libc::SIGUSR2]));
    let (run, daemon) = scenario.serve();
    let initial = run.initial();
    assert_eq!(daemon.blocked_signals, initial.blocked_signals);
    assert_eq!(daemon.ignored_signals, initial.ignored_signals);
    assert_eq!(daemon.caught_signals, initial.caught_signals);
}

fn other_threads_are_accepted() {
    for entry in ENTRIES {
        let scenario = daemon!().foreground(Foreground::Yes).entry(entry);
        let (run, _) = scenario.from_state(|state| state.extra_threads = 1).serve();
        run.assert_pid_file_held();
    }
}
