use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_failed_start_leaves_no_zombie),
    case!(a_subreaper_reaps_intermediate_and_daemon, needs Linux),
];

fn a_failed_start_leaves_no_zombie() {
    for end in [
        Step::Exit(0),
        Step::KillItself(libc::SIGKILL),
        Step::Panic("panic".to_owned()),
    ] {
        let run = daemon!().privileged_action([Step::Observe, end]).launch();
        run.launcher_error();
        let observed = run.observed();
        for pid in [observed.pid, observed.ppid] {
            assert_eq!(run.launcher().process(pid), None, "{}", run.diagnostics());
        }
    }
}

/// When the intermediate ends, the daemon becomes a child of the subreaper.
fn a_subreaper_reaps_intermediate_and_daemon() {
    let ways: [fn(&Run); 3] = [
        Run::kill_held,
        Run::kill_intermediate,
        // The launcher itself then kills the intermediate.
        |run| sys::kill(run.held().ppid, libc::SIGSTOP).unwrap(),
    ];
    at_once(ways, |end| {
        let mut scenario = daemon!()
            .privileged_action([Step::Hold])
            .startup_timeout(scaled(Duration::from_secs(1)));
        scenario.config.report_afterwards = true;
        let scenario = scenario.from_state(|state| state.subreaper = true);
        let run = scenario.launch();
        run.held();
        end(&run);
        run.launcher_error();
        run.wait_until_all_ended();
        let is_report = |message: &Message| matches!(message, Message::Afterwards(_));
        assert!(run.has_sent(is_report), "{}", run.diagnostics());
        for pid in [run.held().pid, run.held().ppid] {
            assert_eq!(run.senders_of(&Message::Unreaped(pid)), [0; 0]);
        }
    });
}
