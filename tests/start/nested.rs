use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_start_within_a_closure_is_refused),
    case!(a_start_before_readiness_is_refused_if_its_launcher_would_exit),
    case!(an_execute_before_readiness_starts_another_daemon),
    case!(a_started_daemon_may_start_another_daemon),
];

fn start_refused(run: &Run) -> StartError {
    run.first("the refusal", select!(StartRefused))
}

/// The inner daemon would be acknowledged, and then end, as the copy of a closure that
/// returns twice does.
fn a_start_within_a_closure_is_refused() {
    let text = "cannot start a daemon within the start of another: \
                a closure of the other start is running";
    let expected = StartError::new("StartWithinStart", None, text);
    for entry in ENTRIES {
        for foreground in [Foreground::No, Foreground::Yes] {
            let start = || [Step::StartAnother(entry, foreground)];
            for scenario in [
                daemon!().privileged_action(start()),
                scenario!().try_privileged_action(start()),
                scenario!().initialize(start()),
                scenario!().foreground(Foreground::Yes).initialize(start()),
            ] {
                let run = scenario.launch();
                run.report();
                assert_eq!(start_refused(&run), expected, "{entry:?} {foreground:?}");
                let daemons = run.count_messages(|message| matches!(message, Message::Daemon(_)));
                assert_eq!(daemons, 1);
            }
        }
    }
}

/// The launcher of the inner start is the outer daemon, which is not ready yet. If it
/// exited, the outer start would fail although there is a daemon.
fn a_start_before_readiness_is_refused_if_its_launcher_would_exit() {
    let text = "cannot start a daemon within the start of another: \
                this process has not yet reported that it is ready; use `execute`";
    let expected = StartError::new("StartWithinStart", None, text);
    for entry in [Entry::Start, Entry::StartChecked] {
        let steps = [Step::StartAnother(entry, Foreground::No)];
        let deferral = Deferral::new(steps, ReadinessUse::Ready);
        for scenario in [scenario!(), scenario!().foreground(Foreground::Yes)] {
            let run = scenario.deferred_readiness(deferral.clone()).launch();
            run.report();
            assert_eq!(start_refused(&run), expected, "{entry:?}");
        }
    }
}

fn an_execute_before_readiness_starts_another_daemon() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_another = Some(AnotherStart::default());
    let run = scenario!().deferred_readiness(deferral).start();
    let other = run.observed();
    assert_ne!(other.pid, run.report().pid);
    // The daemon sends this message after its report.
    run.await_message(&Message::Acknowledged);
}

fn a_started_daemon_may_start_another_daemon() {
    for scenario in [scenario!(), scenario!().foreground(Foreground::Yes)] {
        let deferral = Deferral::new([], ReadinessUse::Ready);
        for scenario in [scenario.clone(), scenario.deferred_readiness(deferral)] {
            let run = scenario.launch();
            run.report();
            run.send_command(&control::Command::StartAnother(AnotherStart {
                by_start: true,
                ..AnotherStart::default()
            }));
            assert_ne!(run.observed().pid, run.report().pid);
        }
    }
}
