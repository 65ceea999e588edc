use tester::config::{Activation, ExecPid};
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_program_is_a_daemon),
    case!(the_program_has_its_arguments),
    case!(the_program_is_searched_in_the_path_of_its_environment),
    case!(a_file_that_may_not_be_executed_does_not_end_the_search),
    case!(a_relative_path_starts_at_the_working_directory),
    case!(the_program_has_the_environment_of_the_launcher),
    case!(the_program_has_the_variables_that_are_set),
    case!(user_environment_changes_the_programs_variables),
    case!(the_program_gets_the_sockets_and_the_watchdog),
    case!(the_program_inherits_no_descriptor_of_the_library),
    case!(kept_descriptors_are_inherited_whatever_their_flags_are),
    case!(caught_signals_and_sigpipe_have_the_default_action),
    case!(ignored_signals_stay_ignored_unless_they_are_reset),
    case!(the_mask_is_that_of_the_launcher_unless_it_is_reset),
    case!(streams_are_replaced_before_the_program_is_executed),
    case!(the_program_has_the_umask_and_the_working_directory),
    case!(the_program_has_another_identity, needs Root, OtherUsers),
    case!(the_program_has_another_root_directory, needs Root),
    case!(no_new_privileges_survives_the_execution, needs NoNewPrivileges),
    case!(the_program_has_the_ambient_capabilities_alone, needs Root, Linux),
];

fn the_program_is_a_daemon() {
    let run = spawned().start();
    let report = run.assert_views_agree();
    assert_ne!(report.sid, run.initial().sid);
    assert_ne!(report.sid, Some(report.pid));
    assert_eq!(report.ppid, run.reaper());
    for number in 0..=2 {
        assert!(report.descriptor(number).unwrap().is_null_device());
    }
    assert_eq!(run.launcher_result().daemon_pid, report.pid);
}

fn script(text: &str) -> Scenario {
    let mut scenario = scenario!().spawn_program("/bin/sh", ["-c", text, "name", "one", "two 3"]);
    scenario.config.program.environment = vec![("NAME".into(), Some("a value".into()))];
    scenario
}

fn the_program_has_its_arguments() {
    let scenario = script(&echo("\"$0,$1,$2,$NAME\"", "output"));
    assert_eq!(output_of(&scenario), "name,one,two 3,a value\n");
}

/// A script that writes `found` to the FIFO.
fn found(fifo: &str) -> String {
    format!("#!/bin/sh\n{}\n", echo("found", fifo))
}

fn with_path(scenario: Scenario, path: &str) -> Scenario {
    let mut scenario = scenario;
    let path = Some(path.into());
    scenario.config.program.environment = vec![("PATH".into(), path)];
    scenario
}

fn the_program_is_searched_in_the_path_of_its_environment() {
    let scenario = scenario!();
    let directory = scenario.create_directory("bin");
    write_program(&scenario, "bin/program", &found("output"));
    let path = format!("/no/such:{}", directory.display());
    let scenario = with_path(scenario.spawn_program("program", [""; 0]), &path);
    assert_eq!(output_of(&scenario), "found\n");
}

fn a_file_that_may_not_be_executed_does_not_end_the_search() {
    let scenario = daemon!();
    let [first, second] = ["first", "second"].map(|name| scenario.create_directory(name));
    let forbidden = write_program(&scenario, "first/program", "#!/bin/sh\n");
    set_mode(&forbidden, 0o644);
    let path = format!("{}:{}", first.display(), second.display());
    let scenario = with_path(scenario.spawn_program("program", [""; 0]), &path);
    // Like execvp(3), the start reports this error, although another directory has no such file.
    assert_eq!(scenario.fail().errno, Some(libc::EACCES));
    write_program(&scenario, "second/program", &found("output"));
    assert_eq!(output_of(&scenario), "found\n");
}

fn a_relative_path_starts_at_the_working_directory() {
    let scenario = scenario!();
    scenario.create_directory("sub");
    write_program(&scenario, "sub/program", &found("../output"));
    let scenario = scenario.working_directory("sub");
    let scenario = scenario.spawn_program("./program", [""; 0]);
    assert_eq!(output_of(&scenario), "found\n");
}

fn the_program_has_the_environment_of_the_launcher() {
    let run = spawned().start();
    assert_eq!(run.report().environment, run.initial().environment);
}

fn the_program_has_the_variables_that_are_set() {
    let mut scenario = spawned().env("HOME", "/foreign").env("SHELL", "/foreign");
    scenario.config.program.environment = vec![
        ("HOME".into(), Some("/own".into())),
        ("SHELL".into(), None),
        ("USER".into(), None),
        ("USER".into(), Some("somebody".into())),
    ];
    let report = scenario.start().report();
    let variables = ["HOME", "SHELL", "USER"].map(|name| report.variable(name));
    assert_eq!(variables, [Some("/own"), None, Some("somebody")]);
    scenario.config.program.clears_environment = true;
    let case = (control::TOKEN.into(), Some("any".into()));
    scenario.config.program.environment.push(case);
    let report = scenario.start().report();
    let variables = ["HOME", "PATH"].map(|name| report.variable(name));
    assert_eq!(variables, [Some("/own"), None]);
}

fn user_environment_changes_the_programs_variables() {
    let mut scenario = spawned().user_environment();
    scenario.config.program.environment = vec![("SHELL".into(), Some("/own".into()))];
    scenario = ["HOME", "USER", "SHELL"]
        .into_iter()
        .fold(scenario, |scenario, name| scenario.env(name, "/foreign"));
    let report = scenario.start().report();
    assert_ne!(report.variable("HOME"), Some("/foreign"));
    assert_ne!(report.variable("USER"), Some("/foreign"));
    assert_eq!(report.variable("SHELL"), Some("/own"));
}

fn the_program_gets_the_sockets_and_the_watchdog() {
    let sockets = vec!["http".to_owned()];
    let activation = Activation {
        process: ExecPid::Own,
        sockets,
    };
    let scenario = spawned().from_state(|state| state.activation = Some(activation));
    let run = scenario.clone().socket_activation().start();
    let pid = run.report().pid.to_string();
    let variable = |name| run.report().variable(name).map(str::to_owned);
    assert_eq!(variable("LISTEN_PID"), Some(pid.clone()));
    assert!(run.report().descriptor(3).is_some());
    drop(run);
    // Without its companions, the variable would mean nothing.
    let mut cleared = scenario.clone().socket_activation();
    cleared.config.program.clears_environment = true;
    let case = (control::TOKEN.into(), Some("any".into()));
    cleared.config.program.environment.push(case);
    let report = cleared.start().report();
    let names = ["LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC"];
    assert!(names.iter().all(|name| report.variable(name).is_some()));
    let report = scenario.start().report();
    assert_ne!(
        report.variable("LISTEN_PID"),
        Some(&*report.pid.to_string())
    );
}

fn the_program_inherits_no_descriptor_of_the_library() {
    let run = scenario!().spawn().start();
    assert_eq!(run.report().descriptor_numbers(), [0, 1, 2]);
    let run = spawned().start();
    // The fourth descriptor is the pid file.
    assert_eq!(run.report().descriptor_numbers().len(), 4);
}

fn kept_descriptors_are_inherited_whatever_their_flags_are() {
    let open = |number| OpenDescriptor::of_root(number, true);
    let scenario = scenario!().spawn().from_state(|state| {
        state.descriptors = vec![open(110), open(111), OpenDescriptor::of_root(112, false)];
    });
    let numbers = |scenario: &Scenario| scenario.start().report().descriptor_numbers();
    assert_eq!(numbers(&scenario), [0, 1, 2, 112]);
    let closing = scenario.clone().close_inherited_fds([]);
    assert_eq!(numbers(&closing), [0, 1, 2]);
    let keeping = scenario.close_inherited_fds([111, 5, 6, 7, 8, 9, 10]);
    assert_eq!(numbers(&keeping), [0, 1, 2, 111]);
}

fn caught_signals_and_sigpipe_have_the_default_action() {
    use Disposition::{Handle, Ignore};

    let scenario = [libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1]
        .into_iter()
        .fold(spawned(), |scenario, signal| {
            scenario.on_signal(signal, Handle)
        })
        .on_signal(libc::SIGPIPE, Ignore);
    let report = scenario.start().report();
    let (ignored, caught) = (
        report.ignored_signals.unwrap(),
        report.caught_signals.unwrap(),
    );
    // The runtime of the program ignores SIGPIPE, and catches the signals of a stack overflow.
    for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1] {
        assert!(
            !ignored.contains(signal) && !caught.contains(signal),
            "{signal}"
        );
    }
    let ends = "kill -PIPE $$; echo ignored > output; exec /bin/sleep 1000";
    let scenario = script(ends).on_signal(libc::SIGPIPE, Ignore);
    let run = scenario.launch();
    // The launcher may notice the end.
    run.wait_until_all_ended();
    assert!(!scenario.path("output").exists());
}

fn ignored_signals_stay_ignored_unless_they_are_reset() {
    let scenario = spawned().on_signal(libc::SIGHUP, Disposition::Ignore);
    let is_ignored = |scenario: &Scenario| {
        let report = scenario.start().report();
        report.ignored_signals.unwrap().contains(libc::SIGHUP)
    };
    assert!(is_ignored(&scenario));
    assert!(!is_ignored(&scenario.reset_signals()));
}

fn the_mask_is_that_of_the_launcher_unless_it_is_reset() {
    let blocked = vec![libc::SIGCHLD, libc::SIGUSR1];
    let scenario = spawned().from_state(|state| state.blocked = Blocked::These(blocked));
    let run = scenario.start();
    assert_eq!(run.report().blocked_signals, run.initial().blocked_signals);
    drop(run);
    let report = scenario.reset_signals().start().report();
    assert_eq!(report.blocked_signals.unwrap().iter().count(), 0);
}

fn streams_are_replaced_before_the_program_is_executed() {
    let log = Stream::log("log").until_ready();
    let scenario = spawned().stdout(log).stderr(Stream::Keep);
    let run = scenario.start();
    let report = run.report();
    assert!(report.descriptor(1).unwrap().is_file(&scenario.path("log")));
    let error = run.initial().descriptor(2).unwrap().clone();
    assert_eq!(report.descriptor(2), Some(&error));
}

fn the_program_has_the_umask_and_the_working_directory() {
    let run = scenario!()
        .spawn()
        .umask(0o077_u32)
        .working_directory("/")
        .start();
    assert_eq!(run.report().umask, Some(0o077));
    let root = Place::of(Path::new("/")).unwrap();
    assert_eq!(run.report().working_directory, Some(root));
}

fn the_program_has_another_identity() {
    let scenario = spawned().user(UID).group(GID);
    let run = scenario.start();
    let report = run.report();
    assert!(report.uid.unwrap() == UID && report.gid.unwrap() == GID);
    report.assert_no_capabilities();
    let regained = run.try_to_regain(0, 0).succeeded;
    assert!(regained.is_empty(), "{regained:?}");
}

fn the_program_has_another_root_directory() {
    let scenario = spawned().chroot("/");
    let run = scenario.start();
    let place = Place::of(scenario.directory()).unwrap();
    assert_eq!(run.report().working_directory, Some(place));
    let (scenario, _) = spawned().with_directory("jail");
    let error = scenario.chroot("jail").fail();
    error.assert_kind("ExecuteProgram", libc::ENOENT);
}

fn no_new_privileges_survives_the_execution() {
    let report = spawned().no_new_privileges().start().report();
    assert_eq!(report.no_new_privileges, Some(true));
}

fn the_program_has_the_ambient_capabilities_alone() {
    const CHOWN: u8 = 0;
    let scenario = spawned().user(UID).group(GID).ambient_capabilities([CHOWN]);
    let found = scenario.start().report().capabilities.unwrap();
    let sets = [
        found.permitted,
        found.effective,
        found.inheritable,
        found.ambient,
    ];
    assert_eq!(sets, [sys::CAP_CHOWN; 4]);
}
