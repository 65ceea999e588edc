use tester::observe;
use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_daemon_inherits_the_dispositions),
    case!(the_launcher_keeps_its_dispositions),
];

fn dispositions() -> impl Iterator<Item = (i32, Disposition)> {
    use Disposition::{Default, Handle, Ignore};
    use libc::{SIGCHLD, SIGHUP, SIGPIPE, SIGTERM, SIGUSR1};

    let signals = [SIGCHLD, SIGHUP, SIGPIPE, SIGTERM, SIGUSR1].into_iter();
    signals.flat_map(|signal| [Default, Ignore, Handle].map(|disposition| (signal, disposition)))
}

fn the_daemon_inherits_the_dispositions() {
    for (signal, disposition) in dispositions() {
        let scenario = daemon!().on_signal(signal, disposition);
        let run = scenario.privileged_action([Step::Observe]).start();
        let initial = run.initial();
        let ignored = initial.ignored_signals.unwrap().contains(signal);
        let caught = initial.caught_signals.unwrap().contains(signal);
        let is = |other| disposition == other;
        let expected = (is(Disposition::Ignore), is(Disposition::Handle));
        assert_eq!((ignored, caught), expected, "{signal} {disposition:?}");
        for report in [run.observed(), run.report()] {
            assert_eq!(report.ignored_signals, initial.ignored_signals);
            assert_eq!(report.caught_signals, initial.caught_signals);
        }
    }
}

fn the_launcher_keeps_its_dispositions() {
    for (signal, disposition) in dispositions() {
        let scenario = daemon!().on_signal(signal, disposition);
        let run = scenario.privileged_action([Step::Hold]).launch();
        run.held();
        let (initial, waiting) = (run.initial(), run.outside(run.launcher_pid()));
        for signals in [observe::ignored_signals, observe::caught_signals] {
            assert_eq!(
                signals(&waiting),
                signals(&initial),
                "{signal} {disposition:?}"
            );
        }
    }
}
