use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_closure_of_an_entry_point_may_borrow),
    case!(a_borrowing_closure_is_the_last_initialization),
    case!(a_failure_of_a_borrowing_closure_is_returned),
];

// The closure of the tester borrows a counter. The tester reports a problem if the daemon does
// not see one call, or if a launcher that returns sees any.

fn add(part: &str) -> [Step; 1] {
    [Step::Add(part.to_owned())]
}

#[track_caller]
fn assert_no_problem(run: &Run) {
    assert!(!run.has_sent(|message| matches!(message, Message::Problem(_))));
}

fn a_closure_of_an_entry_point_may_borrow() {
    for entry in CHECKED {
        let scenario = daemon!().entry(entry).initialize(add("last")).borrowing();
        let run = scenario.start();
        assert_eq!(run.result(), ["last"]);
        if entry.returns_in_both() {
            assert_eq!(run.launcher_result().daemon_pid, run.report().pid);
        }
        assert_no_problem(&run);
        run.assert_pid_file_complete();
    }
}

fn a_borrowing_closure_is_the_last_initialization() {
    for entry in CHECKED {
        let run = daemon!()
            .entry(entry)
            .privileged_action(add("action"))
            .initialize(add("first"))
            .initialize(add("last"))
            .borrowing()
            .start();
        assert_eq!(run.result(), ["action", "first", "last"]);
        assert_no_problem(&run);
    }
}

fn a_failure_of_a_borrowing_closure_is_returned() {
    let error = || Fallible::with_payload("no luck", [7]);
    let panic = || Fallible::from([Step::Panic("out of luck".to_owned())]);
    let panicked = format!("the daemon panicked: {}", of_panic("out of luck"));
    for entry in CHECKED {
        for (closure, kind, text) in [
            (error(), "Initialize", "the initialization failed: no luck"),
            (panic(), "Panicked", &panicked),
        ] {
            let payload = closure.payload.clone().unwrap_or_default();
            let scenario = daemon!().entry(entry).initialize(closure).borrowing();
            let run = scenario.launch();
            let error = run.launcher_error();
            error.assert_is(kind, text);
            assert_eq!(error.payload, payload);
            if entry.returns_in_both() {
                assert_eq!(run.daemon_error(), error);
            }
            run.wait_until_all_ended();
            run.assert_pid_file_released();
            assert_no_problem(&run);
        }
    }
}
