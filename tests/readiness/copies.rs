use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_forked_copy_of_the_daemon_cannot_report),
    case!(a_forked_copy_with_the_daemons_pid_cannot_report, needs Root, Mounting),
];

fn a_forked_copy_of_the_daemon_cannot_report() {
    let usages = [
        ReadinessUse::Ready,
        ReadinessUse::Fail("the copy's".into()),
        ReadinessUse::Drop,
        ReadinessUse::DropByPanic("the copy's".to_owned()),
    ];
    for usage in usages {
        let mut deferral = Deferral::new([], ReadinessUse::Ready);
        deferral.in_copy = Some(usage.clone());
        let run = daemon!().deferred_readiness(deferral).start();
        let daemon = run.report().pid;
        assert_eq!(run.await_message(&Message::Acknowledged), daemon);
        run.assert_pid_file_held();
        if usage == ReadinessUse::Ready {
            let (copy, error) = run.readiness_error();
            run.await_message(&Message::Copied(copy));
            assert_eq!(error.kind, "NotReady");
        }
    }
}

fn a_forked_copy_with_the_daemons_pid_cannot_report() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_copy = Some(ReadinessUse::Ready);
    deferral.copy_has_same_pid = true;
    let run = daemon!().deferred_readiness(deferral).start();
    let daemon = run.report().pid;
    let (copy, error) = run.readiness_error();
    assert_eq!(copy, daemon);
    assert_eq!(error.kind, "NotReady");
    assert_eq!(run.await_message(&Message::Acknowledged), daemon);
}
