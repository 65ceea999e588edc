use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_failure_to_get_ready_reaches_the_launcher),
    case!(a_failure_may_be_returned_so_that_destructors_run),
    case!(an_error_that_a_server_returns_before_readiness_reaches_the_launcher),
    case!(a_panic_of_a_server_before_readiness_reaches_the_launcher),
    case!(a_readiness_dropped_unused_fails_the_start),
    case!(a_daemon_that_goes_on_after_the_drop_is_terminated),
    case!(a_daemon_that_ends_after_the_drop_is_not_signalled),
    case!(a_readiness_dropped_by_a_panic_reports_the_panic),
];

fn a_failure_to_get_ready_reaches_the_launcher() {
    for entry in ENTRIES {
        let usage = ReadinessUse::Fail("no port is free".into());
        let scenario = daemon!().deferring([], usage).entry(entry);
        let scenario = scenario.stderr(Stream::append("log"));
        let scenario = scenario.from_state(|state| state.at_exit_handler = true);
        let run = scenario.launch();
        let error = run.launcher_error();
        run.assert_nothing_left();
        error.assert_is("NotReady", "the daemon is not ready: no port is free");
        // Only the launcher prints the error.
        assert_eq!(fs::read(scenario.path("log")).unwrap(), b"");
        // The daemon has ended by _exit(2).
        let exited = run.senders_of(&Message::AtExit);
        assert!(!exited.contains(&run.report().pid), "{}", run.diagnostics());
    }
}

/// A daemon that ends by itself, and reports a SIGTERM.
fn ending_by_itself(usage: ReadinessUse) -> Scenario {
    let scenario = daemon!().deferring([], usage).life(Life::Exit(0));
    scenario.on_signal(libc::SIGTERM, Disposition::ReportAndExit)
}

fn a_failure_may_be_returned_so_that_destructors_run() {
    let text = "the daemon is not ready: no port is free";
    for entry in ENTRIES {
        let usage = ReadinessUse::FailAndReturn("no port is free".into());
        let scenario = ending_by_itself(usage).entry(entry);
        let scenario = scenario.from_state(|state| state.at_exit_handler = true);
        let run = scenario.launch();
        run.launcher_error().assert_is("NotReady", text);
        run.assert_nothing_left();
        let (daemon, error) = run.readiness_error();
        error.assert_is("NotReady", text);
        let exited = run.senders_of(&Message::AtExit);
        assert!(exited.contains(&daemon), "{}", run.diagnostics());
        assert_eq!(run.senders_of(&Message::Signalled(libc::SIGTERM)), [0; 0]);
    }
}

fn an_error_that_a_server_returns_before_readiness_reaches_the_launcher() {
    let causes = ["no server", "cannot read app.toml"].map(str::to_owned);
    let server = Fallible::from(ErrorText::Chain(causes.to_vec()));
    for in_thread in [false, true] {
        let mut deferral = Deferral::new([], ReadinessUse::Serve(server.clone()));
        deferral.in_thread = in_thread;
        let scenario = daemon!().life(Life::Exit(0));
        let run = scenario.deferred_readiness(deferral).launch();
        let error = run.launcher_error();
        run.assert_nothing_left();
        let text = "no server: cannot read app.toml";
        error.assert_is("NotReady", &format!("the daemon is not ready: {text}"));
        run.await_message(&Message::Served(Err(text.to_owned())));
    }
    // A server may be ready before it returns.
    let usage = ReadinessUse::Serve(Fallible::default());
    let run = daemon!().deferring([], usage).start();
    run.await_message(&Message::Acknowledged);
    run.await_message(&Message::Served(Ok(())));
}

fn not_ready_after_panic() -> String {
    format!(
        "the daemon is not ready: it panicked: {}",
        of_panic("out of luck")
    )
}

fn a_panic_of_a_server_before_readiness_reaches_the_launcher() {
    let panic = Step::Panic("out of luck".to_owned());
    let hook = Step::SetPanicHook(PanicHook::Silent);
    for steps in [vec![panic.clone()], vec![hook, panic]] {
        let usage = ReadinessUse::Serve(Fallible::from(steps));
        let error = daemon!().deferring([], usage).fail();
        error.assert_is("NotReady", &not_ready_after_panic());
    }
}

#[track_caller]
fn assert_fails_in_any_thread(usage: &ReadinessUse, text: &str) {
    for in_thread in [false, true] {
        let mut deferral = Deferral::new([], usage.clone());
        deferral.in_thread = in_thread;
        let error = daemon!().deferred_readiness(deferral).fail();
        error.assert_is("NotReady", text);
    }
}

fn a_readiness_dropped_unused_fails_the_start() {
    let text = format!("the daemon is not ready: {READINESS_DROPPED}");
    assert_fails_in_any_thread(&ReadinessUse::Drop, &text);
}

fn a_daemon_that_goes_on_after_the_drop_is_terminated() {
    /// The daemon has this time to end by itself, and again after SIGTERM.
    const GRACE: Duration = Duration::from_secs(1);

    let lives = [
        (Disposition::ReportAndExit, GRACE),
        (Disposition::Report, 2 * GRACE),
    ];
    at_once(lives, |(disposition, least)| {
        at_once([Entry::Start, Entry::Execute], |entry| {
            let scenario = daemon!().deferring([], ReadinessUse::Drop).entry(entry);
            let scenario = scenario.on_signal(libc::SIGTERM, disposition);
            let began = Instant::now();
            let run = scenario.launch();
            let error = run.launcher_error();
            let took = began.elapsed();
            run.assert_nothing_left();
            assert_eq!(error.kind, "NotReady");
            run.await_message(&Message::Signalled(libc::SIGTERM));
            assert!(took >= least, "{took:?}");
        });
    });
}

fn a_daemon_that_ends_after_the_drop_is_not_signalled() {
    let run = ending_by_itself(ReadinessUse::Drop).launch();
    assert_eq!(run.launcher_error().kind, "NotReady");
    run.assert_nothing_left();
    assert_eq!(run.senders_of(&Message::Signalled(libc::SIGTERM)), [0; 0]);
}

fn a_readiness_dropped_by_a_panic_reports_the_panic() {
    let usage = ReadinessUse::DropByPanic("out of luck".into());
    assert_fails_in_any_thread(&usage, &not_ready_after_panic());
}
