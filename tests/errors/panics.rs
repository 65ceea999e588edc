use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_panic_is_reported_with_its_text),
    case!(the_text_of_a_panic_reaches_the_launcher),
    case!(a_panic_hook_does_not_hide_the_text_of_a_panic),
    case!(a_caught_panic_is_not_reported_as_the_cause_of_a_later_failure),
    case!(a_panic_that_aborts_is_reported_with_its_text, needs AbortingTester),
    case!(a_panic_hook_does_not_hide_the_text_of_a_panic_that_aborts, needs AbortingTester),
];

fn a_panic_is_reported_with_its_text() {
    let scenario = daemon!().privileged_action([Step::Panic("two\nlines \x1b[2J".to_owned())]);
    let text = of_panic("two\n    lines \\u{1b}[2J").replace("\nat", "\n    at");
    let text = format!("the daemon panicked:\n    {text}");
    let expected = StartError::new("Panicked", None, &text);
    scenario.assert_fails(&expected);
}

fn the_text_of_a_panic_reaches_the_launcher() {
    let panic = [Step::Panic("out of luck".to_owned())];
    let [action, initialize, _] = in_each_closure(|| daemon!(), &panic);
    let try_action = scenario!()
        .try_privileged_action(panic)
        .initialize([Step::Observe]);
    for scenario in [action, initialize, try_action] {
        let text = format!("the daemon panicked: {}", of_panic("out of luck"));
        scenario.fail().assert_is("Panicked", &text);
    }
}

const HOOKS: [PanicHook; 4] = [
    PanicHook::Silent,
    PanicHook::Exits,
    PanicHook::Aborts,
    PanicHook::ExitsAfterTheOneBefore,
];

/// Panics in each closure, with a hook of the program that is set before the start, or
/// right before the panic.
fn assert_text_is_reported(new: impl Fn() -> Scenario) {
    for hook in HOOKS {
        for is_set_before in [false, true] {
            let panic = Step::Panic("the port table is empty".to_owned());
            let steps = match is_set_before {
                true => vec![panic],
                false => vec![Step::SetPanicHook(hook), panic],
            };
            let cases = [
                (new().privileged_action(steps.clone()), "Panicked"),
                (new().try_privileged_action(steps.clone()), "Panicked"),
                (new().initialize(steps.clone()), "Panicked"),
                (new().deferring(steps, ReadinessUse::Ready), "NotReady"),
            ];
            for (mut scenario, kind) in cases {
                if is_set_before {
                    scenario = scenario.from_state(|state| state.panic_hook = Some(hook));
                }
                let error = scenario.fail();
                let which = format!("{hook:?}, set before: {is_set_before}, {kind}: {error}");
                // A hook that calls the library's hook and then exits may end the daemon
                // before the panic unwinds.
                let kinds = match hook {
                    PanicHook::ExitsAfterTheOneBefore => vec![kind, "DaemonExited"],
                    _ => vec![kind],
                };
                assert!(kinds.contains(&error.kind_name()), "{which}");
                let text = format!(" panicked: {}", of_panic("the port table is empty"));
                assert!(error.text.ends_with(&text), "{which}");
            }
        }
    }
}

fn a_panic_hook_does_not_hide_the_text_of_a_panic() {
    assert_text_is_reported(|| daemon!());
}

/// The library reports the panic nevertheless: it may be the reason for the exit.
fn a_caught_panic_is_not_reported_as_the_cause_of_a_later_failure() {
    let mut deferral = Deferral::new([], ReadinessUse::Fail("no port is free".into()));
    deferral.in_copy = Some(ReadinessUse::DropByPanic("the copy's".to_owned()));
    let text = "the daemon is not ready: no port is free";
    let error = scenario!().deferred_readiness(deferral).fail();
    error.assert_is("NotReady", text);
    let survived = Step::PanicAndCatch("out of luck".to_owned());
    let fail = ReadinessUse::Fail("no port is free".into());
    let error = daemon!().deferring([survived.clone()], fail).fail();
    error.assert_is("NotReady", text);
    let steps = [survived.clone(), Step::Exit(3)];
    let error = daemon!().deferring(steps, ReadinessUse::Ready).fail();
    let text = format!(
        "the daemon ended before it was ready (exit status: 3); it panicked: {}",
        of_panic("out of luck")
    );
    error.assert_is("DaemonExited", &text);
    assert_eq!(error.daemon_exit_status, Some(3 << 8));
    daemon!().deferring([survived], ReadinessUse::Ready).start();
}

fn a_panic_that_aborts_is_reported_with_its_text() {
    let tester = PathBuf::from(std::env::var_os(suite::ABORTING_TESTER).unwrap());
    let scenario = || Scenario::new(&tester).pid_file("daemon.pid");
    let panic = || [Step::Panic("out of\nluck".to_owned())];
    let dropping = ReadinessUse::DropByPanic("out of\nluck".to_owned());
    let mut in_thread = Deferral::new([], dropping.clone());
    in_thread.in_thread = true;
    for entry in ENTRIES {
        let cases = [
            (scenario().privileged_action(panic()), "Panicked"),
            (scenario().initialize(panic()), "Panicked"),
            (scenario().deferring([], dropping.clone()), "NotReady"),
            (scenario().deferred_readiness(in_thread.clone()), "NotReady"),
        ];
        for (scenario, kind) in cases {
            let error = scenario.entry(entry).fail();
            assert_eq!(error.kind, kind, "{error}");
            let text = of_panic("out of\nluck").replace('\n', "\n    ");
            let text = format!(" panicked:\n    {text}");
            assert!(error.text.ends_with(&text), "{error}");
        }
    }
    // A panic after the commit concerns the daemon alone.
    scenario().deferring([], ReadinessUse::Ready).start();
}

fn a_panic_hook_does_not_hide_the_text_of_a_panic_that_aborts() {
    let tester = PathBuf::from(std::env::var_os(suite::ABORTING_TESTER).unwrap());
    assert_text_is_reported(|| Scenario::new(&tester).pid_file("daemon.pid"));
}
