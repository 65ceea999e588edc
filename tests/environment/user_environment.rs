use tester::prelude::*;
use tester::trace::{Fault, How, Role};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_daemon_has_the_environment_of_the_launcher_without_the_option),
    case!(the_option_sets_the_variables_of_the_launchers_user),
    case!(the_option_sets_the_variables_of_root_for_root, needs Root),
    case!(the_option_sets_the_variables_of_another_user, needs Root, Linux, Mounting),
    case!(a_user_by_number_has_the_variables_of_its_entry, needs Root, Linux, Mounting),
    case!(empty_fields_of_an_entry_have_defaults, needs Root, Linux, Mounting),
    case!(all_other_variables_stay),
    case!(the_launcher_keeps_its_environment_under_execute),
    case!(each_closure_and_each_program_of_the_daemon_has_the_variables),
    case!(the_variables_are_set_in_the_foreground),
    case!(a_user_without_an_entry_is_refused_before_any_fork, needs Root),
    case!(an_effective_user_without_an_entry_is_refused_before_any_fork, needs Root, OtherUsers),
    case!(other_threads_fail_a_foreground_start),
    case!(threads_of_the_launcher_do_not_matter_to_a_daemon),
    case!(an_unknown_number_of_threads_does_not_matter_to_a_daemon, needs Faults),
    case!(an_unknown_number_of_threads_fails_a_foreground_start, needs Faults),
    case!(without_the_option_other_threads_do_not_fail_a_foreground_start),
];

/// A user that the user database of [`with_database`] has.
const LINE: &str = "clock:x:7001:7002:A clock:/srv/clock:/usr/sbin/nologin\n";

const PATH_OF_ROOT: &str = if cfg!(target_os = "linux") {
    "/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin"
} else if cfg!(target_os = "freebsd") {
    "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
} else {
    "/usr/bin:/bin:/usr/sbin:/sbin"
};

/// That of Linux, which has the cases with a database of their own.
const PATH_OF_USERS: &str = "/usr/local/bin:/bin:/usr/bin";

/// A launcher whose variables are those of no user.
fn with_foreign_variables(scenario: Scenario) -> Scenario {
    let set = |scenario: Scenario, name| scenario.env(name, "/foreign");
    NAMES.into_iter().fold(scenario, set)
}

fn the_daemon_has_the_environment_of_the_launcher_without_the_option() {
    let run = with_foreign_variables(scenario!()).start();
    assert_eq!(of_user(&run.report()), [Some("/foreign"); 5]);
    assert_eq!(run.report().environment, run.initial().environment);
}

/// The shell asks the same database for `~`.
fn the_option_sets_the_variables_of_the_launchers_user() {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let name = output("id", &["-un"]);
    let home = output("sh", &["-c", &format!("eval echo ~{name}")]);
    for entry in ENTRIES {
        let scenario = with_foreign_variables(scenario!()).entry(entry);
        let report = scenario.user_environment().start().report();
        let [found_home, user, logname, shell, path] = of_user(&report);
        assert_eq!(found_home, Some(home.as_str()));
        assert_eq!([user, logname], [Some(name.as_str()); 2]);
        assert_ne!([shell, path], [Some("/foreign"); 2]);
    }
}

fn the_option_sets_the_variables_of_root_for_root() {
    for scenario in [scenario!(), scenario!().user("root"), scenario!().user(0)] {
        let scenario = with_foreign_variables(scenario).user_environment();
        let report = scenario.start().report();
        let [_, user, logname, _, path] = of_user(&report);
        assert_eq!([user, logname], [Some("root"); 2]);
        assert_eq!(path, Some(PATH_OF_ROOT));
    }
}

fn the_option_sets_the_variables_of_another_user() {
    let scenario = with_foreign_variables(with_database(LINE)).user("clock");
    let run = scenario.user_environment().start();
    let variables = [
        "/srv/clock",
        "clock",
        "clock",
        "/usr/sbin/nologin",
        PATH_OF_USERS,
    ];
    assert_eq!(of_user(&run.report()), variables.map(Some));
}

/// The group is known, so that only the environment needs the entry.
fn a_user_by_number_has_the_variables_of_its_entry() {
    let scenario = with_foreign_variables(with_database(LINE)).user(7001);
    let scenario = scenario
        .group(7002)
        .supplementary_groups(SupplementaryGroups::Keep);
    let run = scenario.user_environment().start();
    let [home, user, ..] = of_user(&run.report()).map(|value| value.map(str::to_owned));
    assert_eq!(home.as_deref(), Some("/srv/clock"));
    assert_eq!(user.as_deref(), Some("clock"));
}

fn empty_fields_of_an_entry_have_defaults() {
    let scenario = with_foreign_variables(with_database("clock:x:7001:7002:::\n"));
    let run = scenario.user("clock").user_environment().start();
    let variables = ["/", "clock", "clock", "/bin/sh", PATH_OF_USERS];
    assert_eq!(of_user(&run.report()), variables.map(Some));
}

fn all_other_variables_stay() {
    let (name, value) = ("CLOCK", "ticks\n=\u{e4}");
    let scenario = with_foreign_variables(scenario!()).env(name, value);
    let words = ["sh", "-c", "printf '%s\\n' \"$CLOCK\""];
    let words = words.map(Bytes::from).to_vec();
    let scenario = scenario.initialize([Step::Run(words)]);
    let run = scenario.user_environment().start();
    assert_eq!(run.result(), [value]);
    let others = |report: Report| report.environment.expect("it is observed inside").others;
    assert_eq!(others(run.report()), others(run.initial()));
}

fn the_launcher_keeps_its_environment_under_execute() {
    let mut scenario = with_foreign_variables(scenario!()).entry(Entry::Execute);
    scenario.config.report_afterwards = true;
    let run = scenario.user_environment().start();
    let afterwards = afterwards(&run);
    assert_eq!(of_user(&afterwards), [Some("/foreign"); 5]);
    assert_eq!(afterwards.environment, run.initial().environment);
}

fn each_closure_and_each_program_of_the_daemon_has_the_variables() {
    let steps = || {
        let words = ["sh", "-c", "echo \"$HOME $USER $LOGNAME $SHELL $PATH\""];
        vec![Step::Run(words.map(Bytes::from).to_vec())]
    };
    let scenario = with_foreign_variables(scenario!()).user_environment();
    let scenario = scenario.privileged_action(steps()).initialize(steps());
    let run = scenario.start();
    let variables = of_user(&run.report()).map(|value| value.unwrap().to_owned());
    assert_eq!(run.result(), [variables.join(" "), variables.join(" ")]);
}

fn the_variables_are_set_in_the_foreground() {
    let scenario = with_foreign_variables(scenario!()).foreground(Foreground::Yes);
    let (run, _) = scenario.user_environment().serve();
    assert!(!of_user(&run.report()).contains(&Some("/foreign")));
}

#[track_caller]
fn assert_refused_before_any_fork(scenario: Scenario, user: u32) {
    let scenario = scenario.pid_file("daemon.pid").user_environment();
    for entry in [Entry::Start, Entry::Execute] {
        let run = scenario.clone().entry(entry).launch();
        let text = format!("cannot set the environment: no entry in the database for user {user}");
        run.launcher_error()
            .assert_is("UserEnvironmentUnknown", &text);
        run.assert_nothing_left();
        let mut frames = run.messages().into_iter();
        assert!(frames.all(|frame| frame.sender == run.launcher_pid()));
        assert!(!scenario.path("daemon.pid").exists());
    }
}

fn a_user_without_an_entry_is_refused_before_any_fork() {
    assert_refused_before_any_fork(scenario!().user(UID).group(GID), UID);
}

fn an_effective_user_without_an_entry_is_refused_before_any_fork() {
    assert_refused_before_any_fork(scenario!().as_user(UID, GID), UID);
}

fn other_threads_fail_a_foreground_start() {
    let scenario = with_foreign_variables(daemon!()).foreground(Foreground::Yes);
    let mut scenario = scenario.from_state(|state| state.extra_threads = 1);
    scenario.config.report_afterwards = true;
    for entry in ENTRIES {
        let scenario = scenario.clone().entry(entry).user_environment();
        let run = scenario.launch();
        let text = "cannot set the environment: other threads may read it; start the daemon before they exist";
        let error = match entry.returns_in_both() {
            true => run.daemon_error(),
            false => run.launcher_error(),
        };
        error.assert_kind("SetEnvironment", libc::EPERM);
        assert_eq!(error.text, text);
        // Nothing has changed by then.
        assert!(!scenario.path("daemon.pid").exists());
        assert_eq!(of_user(&afterwards(&run)), [Some("/foreign"); 5]);
    }
}

/// fork(2) copies only the thread that calls it.
fn threads_of_the_launcher_do_not_matter_to_a_daemon() {
    let scenario = with_foreign_variables(scenario!()).entry(Entry::Start);
    let scenario = scenario.from_state(|state| state.extra_threads = 1);
    let run = scenario.user_environment().start();
    assert!(!of_user(&run.report()).contains(&Some("/foreign")));
}

/// A start in which this process cannot count its threads.
fn with_unknown_threads(scenario: &Scenario, process: Role) -> Scenario {
    let fails = |call: &str, errno| Fault {
        process,
        call: call.to_owned(),
        occurrence: 0,
        how: How::Errno(errno),
        always: true,
    };
    let scenario = scenario.clone().user_environment();
    scenario.faults(&[
        fails("unshare", libc::EPERM),
        fails("open(/proc/self/status)", libc::ENOENT),
    ])
}

fn an_unknown_number_of_threads_does_not_matter_to_a_daemon() {
    let scenario = with_foreign_variables(scenario!());
    let run = with_unknown_threads(&scenario, Role::Daemon).start();
    assert!(!of_user(&run.report()).contains(&Some("/foreign")));
}

fn an_unknown_number_of_threads_fails_a_foreground_start() {
    let scenario = scenario!().foreground(Foreground::Yes);
    let run = with_unknown_threads(&scenario, Role::Launcher).launch();
    let error = run.launcher_error();
    error.assert_kind("SetEnvironment", libc::EPERM);
    let text = "cannot set the environment: the number of threads is unknown: unshare(2) is \
                forbidden, and /proc/self/status cannot be read; mount /proc";
    assert_eq!(error.text, text);
}

fn without_the_option_other_threads_do_not_fail_a_foreground_start() {
    let scenario = scenario!().foreground(Foreground::Yes);
    scenario.from_state(|state| state.extra_threads = 1).serve();
}
