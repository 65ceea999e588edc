use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_daemon_inherits_the_dispositions),
    case!(the_launcher_keeps_its_dispositions, needs Linux),
];

fn dispositions() -> impl Iterator<Item = (i32, Disposition)> {
    let signals = [
        libc::SIGCHLD,
        libc::SIGHUP,
        libc::SIGPIPE,
        libc::SIGTERM,
        libc::SIGUSR1,
    ];
    signals.into_iter().flat_map(|signal| {
        [
            Disposition::Default,
            Disposition::Ignore,
            Disposition::Handle,
        ]
        .map(|disposition| (signal, disposition))
    })
}

fn the_daemon_inherits_the_dispositions() {
    for (signal, disposition) in dispositions() {
        let steps = [Step::Observe];
        let run = daemon!()
            .on_signal(signal, disposition)
            .privileged_action(steps)
            .start();
        let initial = run.initial();
        let ignored = initial.ignored_signals.unwrap().contains(signal);
        let caught = initial.caught_signals.unwrap().contains(signal);
        let expected = (
            disposition == Disposition::Ignore,
            disposition == Disposition::Handle,
        );
        assert_eq!((ignored, caught), expected, "{signal} {disposition:?}");
        for report in [run.observed(), run.report()] {
            assert_eq!(report.ignored_signals, initial.ignored_signals);
            assert_eq!(report.caught_signals, initial.caught_signals);
        }
    }
}

fn the_launcher_keeps_its_dispositions() {
    for (signal, disposition) in dispositions() {
        let steps = [Step::Hold];
        let run = daemon!()
            .on_signal(signal, disposition)
            .privileged_action(steps)
            .launch();
        run.held();
        let (initial, waiting) = (run.initial(), run.outside(run.launcher_pid()));
        assert_eq!(waiting.ignored_signals, initial.ignored_signals);
        assert_eq!(waiting.caught_signals, initial.caught_signals);
    }
}
