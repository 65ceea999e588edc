use tester::config::Config;
use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_first_of_several_failures_is_reported, needs OtherUsers),
    case!(a_locked_pid_file_is_reported_before_later_failures),
];

type Fault = (&'static [&'static str], fn(&mut Config));

/// Faults in the order of the crate's documentation. Each fault overrides what a later
/// fault sets in its place.
const FAULTS: &[Fault] = &[
    (&["PathContainsNul"], |config| {
        config.options.chroot = Some(Bytes(b"\0".to_vec()));
    }),
    (&["UserContainsNul"], |config| {
        config.options.chown_pid_file_user = Some("\0".into());
    }),
    (&["GroupContainsNul"], |config| {
        config.options.chown_pid_file_group = Some("\0".into());
    }),
    (&["UserNotFound"], |config| {
        config.options.user = Some("no-such-user".into());
    }),
    (&["GroupNotFound"], |config| {
        config.options.group = Some("no-such-group".into());
    }),
    (&["MultiThreaded"], |config| {
        config.initial.extra_threads = 1
    }),
    (&["ChangeDirectory"], |config| {
        config.options.working_directory = Some("missing".into());
    }),
    (&["OpenPidfile"], |config| {
        config.options.pid_file = Some("missing/daemon.pid".into());
    }),
    (&["ChownPidfile"], |config| {
        config.options.chown_pid_file_user = Some(0.into());
    }),
    (&["Panicked"], |config| {
        config.privileged_action = Some(vec![Step::Panic("panic".to_owned())]);
    }),
    (&["Chroot"], |config| {
        config.options.chroot = Some("missing".into());
    }),
    // The caller's groups decide which of these steps fails first.
    (&["SetSupplementaryGroups", "SetGroup"], |config| {
        config.options.user = Some(0.into());
    }),
    (&["WritePid"], |config| {
        config.initial.limit_file_size = Some(0)
    }),
];

fn without_fault() -> Scenario {
    let scenario = daemon!().as_ordinary_user().limit_file_size(100);
    scenario.on_signal(libc::SIGXFSZ, Disposition::Ignore)
}

fn the_first_of_several_failures_is_reported() {
    for first in 0..FAULTS.len() {
        let mut scenario = without_fault().entry(Entry::StartChecked);
        for (_, break_it) in FAULTS[first..].iter().rev() {
            break_it(&mut scenario.config);
        }
        let (kinds, _) = FAULTS[first];
        let error = scenario.fail_in_launcher();
        assert!(kinds.contains(&error.kind_name()), "{kinds:?}: {error}");
    }
    without_fault().start();
}

fn a_locked_pid_file_is_reported_before_later_failures() {
    let scenario = daemon!();
    let _running = scenario.start();
    let steps = [Step::Panic("never reached".to_owned())];
    let run = scenario.chroot("missing").privileged_action(steps).launch();
    assert_eq!(run.launcher_error().kind_name(), "LockPidfile");
}
