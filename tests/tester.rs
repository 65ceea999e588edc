//! The tester is reliable: it accepts valid bytes only, and its views agree with known facts.

use std::os::fd::BorrowedFd;
use std::process::ExitCode;

use assert_cmd::assert::OutputAssertExt;
use tester::config::{Config, ExecPid};
use tester::harness::catch;
use tester::observe::differences;
use tester::prelude::*;
use tester::report::{IdTriple, Terminal};
use tester::slowness::SLOWNESS;
use tester::subject::{self, EXIT_BAD_CONFIG};
use tester::suite;
use tester::suite::SKIPS_OF;
use tester::wire::{self, WireError};

fn main() -> ExitCode {
    suite(&[
        case!(a_configuration_survives_the_wire),
        case!(an_empty_configuration_is_refused),
        case!(a_truncated_configuration_is_refused),
        case!(a_configuration_with_bytes_appended_is_refused),
        case!(random_bytes_are_refused),
        case!(a_damaged_configuration_never_panics_the_decoder),
        case!(a_hundred_megabytes_are_refused),
        case!(an_unknown_argument_is_refused),
        case!(without_a_harness_the_tester_does_not_start_anything),
        case!(the_initial_state_is_set_up),
        case!(signals_that_the_test_ignores_are_not_ignored),
        case!(only_descriptors_that_a_case_names_are_open),
        case!(descriptors_that_the_test_inherits_are_not_open),
        case!(cases_have_enough_descriptors_and_a_directory_that_all_can_enter),
        case!(the_end_of_the_harness_is_seen_and_discards_no_message),
        case!(the_initial_ids_and_groups_are_set_up, needs Root),
        case!(the_initial_capabilities_are_set_up, needs Root, Linux),
        case!(the_initial_user_database_is_set_up, needs Root, Linux, Mounting),
        case!(the_initial_secure_bits_are_set_up, needs Root, Linux),
        case!(the_initial_user_namespace_is_set_up, needs Root, Linux, UserNamespaces),
        case!(a_program_is_started_as_an_ordinary_user, needs Root),
        case!(an_impossible_initial_state_is_reported),
        case!(a_terminal_is_acquired, needs Terminals),
        case!(differing_views_are_told_apart),
        case!(ids_that_were_not_dropped_are_regained, needs Root),
        case!(a_climb_without_a_jail_reaches_the_root),
        case!(a_held_start_waits_to_proceed),
        case!(a_process_left_behind_is_found),
        case!(a_held_lock_is_seen),
        case!(a_passed_deadline_is_reported_with_diagnostics),
        case!(a_slowness_that_is_not_a_positive_number_is_refused),
        case!(the_skipped_cases_of_another_platform_are_known),
        case!(each_process_of_a_held_start_can_be_killed),
        case!(output_may_go_to_pipes),
        case!(dropping_a_run_ends_a_daemon_that_receives_no_command),
    ])
}

/// A configuration with a value in every kind of field.
fn config() -> Config {
    let mut config = Config::default();
    config.initial.closed = [true, false, true];
    config.initial.dispositions = vec![(libc::SIGCHLD, Disposition::Ignore)];
    config.initial.ids = Some(Ids::user(65534, 65534));
    config.initial.unflushed_c = Some("text".to_owned());
    config.options.pid_file = Some(Bytes(b"not\xffUTF-8\0".to_vec()));
    config.options.user = Some(Identity::Name("nobody".to_owned()));
    config.options.group = Some(Identity::Id(7));
    config.options.stdout = Some(Stream::append("log").at(1));
    config.options.stdin = Some(Stream::file("in", Access::ReadWrite));
    config.options.directories = Some(vec![
        Directory::at("/directory").mode(0o750),
        Directory::in_place(DirectoryPlace::Logs("logs".into())),
    ]);
    config.entry = Entry::ExecuteChecked;
    config.privileged_action = Some(vec![Step::Hold, Step::Panic("text".to_owned())]);
    config.try_privileged_action = Some(Fallible {
        steps: vec![Step::Add("part".to_owned()), Step::Abort],
        error: Some(ErrorText::PanicsAfter("text".to_owned())),
        payload: Some(Bytes(vec![0, 255])),
    });
    config.ready_payload = Some(Bytes(vec![0, 255]));
    config.on_started = Some(vec![Step::Print("text".to_owned())]);
    config.initialize = vec![ErrorText::from("text").into(), [Step::Observe].into()];
    let mut deferral = Deferral::new([Step::Hold], ReadinessUse::Fail("text".into()));
    deferral.in_copy = Some(ReadinessUse::DropByPanic("text".to_owned()));
    config.deferred_readiness = Some(deferral);
    config.options.startup_timeout = Some(Duration::MAX);
    config.options.foreground = Some(Foreground::IfSupervised);
    config.initial.exec_pid = Some(ExecPid::Parents);
    config.initial.user_namespace = Some(UserNamespace {
        users: vec![[0, 1, 2], [u32::MAX, 4, 5]],
        groups: Vec::new(),
        denies_setgroups: true,
    });
    config.life = Life::Exit(3);
    config
}

/// Runs the tester on these bytes, which it must refuse with one line.
#[track_caller]
fn assert_refused(bytes: &[u8], reason: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    assert_file_refused(file.path(), reason);
}

#[track_caller]
fn assert_file_refused(path: &Path, reason: &str) {
    let output = Command::new(tester::tester!())
        .stdin(File::open(path).unwrap())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    output.assert().code(i32::from(EXIT_BAD_CONFIG)).stdout("");
    let start = "tester: cannot read the configuration: ";
    assert!(
        stderr.starts_with(start) && stderr.contains(reason) && stderr.lines().count() == 1,
        "{stderr}"
    );
}

/// Bytes without a pattern, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

fn a_configuration_survives_the_wire() {
    assert_eq!(wire::decode(&wire::encode(&config())), Ok(config()));
}

fn an_empty_configuration_is_refused() {
    assert_refused(b"", "no bytes");
}

fn a_truncated_configuration_is_refused() {
    let bytes = wire::encode(&config());
    for length in [1, 7, 8, 15, 16, 17, bytes.len() / 2, bytes.len() - 1] {
        assert_refused(&bytes[..length], "");
    }
    for length in 0..bytes.len() {
        wire::decode::<Config>(&bytes[..length]).unwrap_err();
    }
}

fn a_configuration_with_bytes_appended_is_refused() {
    let mut bytes = wire::encode(&config());
    bytes.push(0);
    assert_refused(&bytes, "announced");
    bytes.extend(wire::encode(&config()));
    assert_refused(&bytes, "announced");
}

fn random_bytes_are_refused() {
    assert_refused(&noise(3), "not a message");
    assert_refused(&noise(4000), "not a message");
    // A valid header does not help.
    let mut bytes = wire::encode(&config());
    let payload = bytes.len() - 16;
    bytes.truncate(16);
    bytes.extend(noise(payload));
    assert_refused(&bytes, "invalid archive");
}

fn a_damaged_configuration_never_panics_the_decoder() {
    let bytes = wire::encode(&config());
    for position in 0..bytes.len() {
        for damage in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] ^= damage;
            // Some damage only changes a value.
            let _ = wire::decode::<Config>(&damaged);
        }
    }
}

fn a_hundred_megabytes_are_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(100_000_000).unwrap();
    assert_file_refused(file.path(), &WireError::TooLong.to_string());
}

fn an_unknown_argument_is_refused() {
    Command::new(tester::tester!())
        .arg("--help")
        .assert()
        .code(i32::from(EXIT_BAD_CONFIG))
        .stderr("tester: unknown argument --help\n");
}

fn without_a_harness_the_tester_does_not_start_anything() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), wire::encode(&Config::default())).unwrap();
    Command::new(tester::tester!())
        .stdin(File::open(file.path()).unwrap())
        .env_remove(control::TOKEN)
        .assert()
        .code(i32::from(subject::EXIT_NO_HARNESS));
}

fn the_initial_state_is_set_up() {
    let scenario = scenario!().from_state(|state| {
        state.closed = [true, false, false];
        state.descriptors = vec![OpenDescriptor::of_root(77, false)];
        state.umask = Some(0o123);
        state.dispositions = vec![
            (libc::SIGCHLD, Disposition::Ignore),
            (libc::SIGUSR1, Disposition::Handle),
        ];
        state.blocked = Blocked::These(vec![libc::SIGUSR2]);
        state.extra_threads = 2;
    });
    let run = scenario.launch();
    let initial = run.initial();
    // Other descriptors that the test inherits are open, too.
    let numbers = initial.descriptor_numbers();
    assert_eq!(numbers[..2], [1, 2], "{numbers:?}");
    assert!(numbers.contains(&77), "{numbers:?}");
    assert_eq!(initial.umask, Some(0o123));
    assert!(initial.ignored_signals.unwrap().contains(libc::SIGCHLD));
    assert!(initial.caught_signals.unwrap().contains(libc::SIGUSR1));
    let blocked: Vec<_> = initial.blocked_signals.unwrap().iter().collect();
    assert_eq!(blocked, [libc::SIGUSR2]);
    // An emulator adds a thread to each process.
    let another = scenario!().launch().initial().threads;
    assert_eq!(initial.threads, another.map(|threads| threads + 2));
}

/// nohup(1) ignores signals, and so does a shell with a job in the background.
fn signals_that_the_test_ignores_are_not_ignored() {
    sys::set_disposition(libc::SIGUSR2, Disposition::Ignore).unwrap();
    let ignored = scenario!().launch().initial().ignored_signals.unwrap();
    assert!(!ignored.contains(libc::SIGUSR2), "{ignored:?}");
    assert!(ignored.contains(libc::SIGPIPE), "{ignored:?}");
}

fn only_descriptors_that_a_case_names_are_open() {
    let descriptors = scenario!().launch().initial().descriptors.unwrap();
    let numbers: Vec<_> = descriptors.iter().map(|open| open.number).collect();
    assert_eq!(numbers, [0, 1, 2]);
}

fn descriptors_that_the_test_inherits_are_not_open() {
    let mut again = suite::again("only_descriptors_that_a_case_names_are_open").unwrap();
    let file = tempfile::tempfile().unwrap();
    sys::pass_descriptor(&mut again, file.as_fd(), 300);
    again.assert().success();
}

/// macOS starts programs with less of both.
fn cases_have_enough_descriptors_and_a_directory_that_all_can_enter() {
    /// Set in the process that checks.
    const CHECK: &str = "TESTER_CHECK";
    const CASE: &str = "cases_have_enough_descriptors_and_a_directory_that_all_can_enter";

    if std::env::var_os(CHECK).is_some() {
        assert!(sys::descriptor_limit() >= 1024);
        for above in scenario!().directory().ancestors() {
            let mode = fs::metadata(above).unwrap().mode();
            assert!(mode & 0o001 != 0, "{}: {mode:o}", above.display());
        }
        return;
    }
    let again = suite::again(CASE).unwrap();
    let private = tempfile::tempdir().unwrap();
    Command::new("sh")
        .args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""])
        .arg(again.get_program())
        .args(again.get_args())
        .envs(
            again
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env_remove(suite::SKIPPED_LIST)
        .env("TMPDIR", private.path())
        .env(CHECK, "1")
        .assert()
        .success();
}

fn the_end_of_the_harness_is_seen_and_discards_no_message() {
    let (harness, tester) = sys::socket_pair().unwrap();
    sys::send(tester.as_fd(), b"one ").unwrap();
    sys::send(harness.as_fd(), b"command").unwrap();
    assert!(!sys::is_hung_up(tester.as_fd()), "a message is no end");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| sys::wait_for_hangup(tester.as_fd()));
        sys::shut_down(harness.as_fd());
        waiting.join().unwrap().unwrap();
    });
    assert!(sys::is_hung_up(tester.as_fd()));
    sys::send(tester.as_fd(), b"two").unwrap();
    let receive = |socket: BorrowedFd<'_>| {
        let mut buffer = [0; 64];
        let received = sys::receive(socket, &mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..received]).into_owned()
    };
    assert_eq!(receive(tester.as_fd()), "command");
    assert_eq!(receive(tester.as_fd()), "");
    assert!(!sys::is_hung_up(harness.as_fd()));
    drop(tester);
    // A program that another case is about to execute may have a copy for an instant.
    sys::wait_for_hangup(harness.as_fd()).unwrap();
    assert!(sys::is_hung_up(harness.as_fd()));
    // A stream joins the two messages.
    let received = [(); 3].map(|()| receive(harness.as_fd()));
    assert_eq!(received.concat(), "one two");
}

fn the_initial_ids_and_groups_are_set_up() {
    let scenario = scenario!().with_ids([1, 2, 3], [4, 5, 6], &[9, 8]);
    let initial = scenario.launch().initial();
    let triple = |real, effective, saved| {
        Some(IdTriple {
            real,
            effective,
            saved: sys::SEES_SAVED_IDS.then_some(saved),
        })
    };
    assert_eq!(initial.uid, triple(1, 2, 3));
    assert_eq!(initial.gid, triple(4, 5, 6));
    // Some systems list the effective group, too.
    let listed = match sys::EFFECTIVE_GID_IS_LISTED {
        true => vec![5, 8, 9],
        false => vec![8, 9],
    };
    assert_eq!(initial.groups, Some(listed));
}

fn the_initial_capabilities_are_set_up() {
    const MASK: u64 = sys::CAP_SETGID | sys::CAP_SETUID;
    let scenario = scenario!().as_user(65534, 65534).from_state(|state| {
        state.capabilities = Some(MASK);
    });
    let initial = scenario.launch().initial();
    let sets = initial.capabilities.unwrap();
    assert_eq!((sets.effective, sets.permitted), (MASK, MASK));
    assert!(initial.uid.unwrap() == 65534);
}

fn the_initial_user_database_is_set_up() {
    let scenario = scenario!();
    let directory = scenario.create_directory("etc");
    fs::write(directory.join("passwd"), "only:x:4711:4712::/:/bin/sh\n").unwrap();
    let before = fs::read("/etc/passwd").unwrap();
    let scenario = scenario.from_state(|state| state.user_database = Some(directory.into()));
    let program = vec!["cat".into(), "/etc/passwd".into()];
    let run = scenario.privileged_action([Step::Run(program)]).start();
    assert_eq!(run.result(), ["only:x:4711:4712::/:/bin/sh"]);
    // Other processes see the former database.
    assert_eq!(fs::read("/etc/passwd").unwrap(), before);
}

fn the_initial_secure_bits_are_set_up() {
    let scenario = scenario!().as_user(65534, 65534).from_state(|state| {
        state.secure_bits = Some(sys::NO_SETUID_FIXUP);
    });
    let initial = scenario.launch().initial();
    assert!(initial.uid.unwrap() == 65534);
    // The process has kept the capabilities of root.
    assert_ne!(initial.capabilities.unwrap().effective, 0);
}

fn the_initial_user_namespace_is_set_up() {
    let scenario = scenario!().as_user(4711, 4712).from_state(|state| {
        state.user_namespace = Some(UserNamespace {
            users: vec![[7, 4711, 1]],
            groups: vec![[8, 4712, 1]],
            denies_setgroups: true,
        });
    });
    let run = scenario.start();
    let (inside, outside) = (run.report(), run.outside(run.report().pid));
    assert!(inside.uid.unwrap() == 7 && inside.gid.unwrap() == 8);
    assert!(outside.uid.unwrap() == 4711 && outside.gid.unwrap() == 4712);
    // The process has all capabilities, but in that namespace only.
    assert_ne!(inside.capabilities.unwrap().effective, 0);
}

fn a_program_is_started_as_an_ordinary_user() {
    let run = scenario!().launched_by(4711, 4712, &[4712, 4713]).start();
    let initial = run.initial();
    assert!(initial.uid.unwrap() == 4711 && initial.gid.unwrap() == 4712);
    assert_eq!(initial.groups, Some(vec![4712, 4713]));
}

fn an_impossible_initial_state_is_reported() {
    let scenario = scenario!().from_state(|state| state.working_directory = Some("missing".into()));
    scenario
        .launch()
        .launcher()
        .assert()
        .code(i32::from(subject::EXIT_BAD_STATE));
}

fn a_terminal_is_acquired() {
    let scenario = scenario!().from_state(|state| state.session = Session::LeaderWithTerminal);
    let initial = scenario.launch().initial();
    assert_eq!(initial.sid, Some(initial.pid));
    assert!(!matches!(initial.terminal, None | Some(Terminal::None)));
}

fn differing_views_are_told_apart() {
    let run = scenario!().start();
    let report = run.report();
    assert_eq!(differences(&report, &report), [""; 0]);
    let mut other = report.clone();
    other.umask = Some(0o777);
    other.descriptors.as_mut().unwrap().pop();
    let found = differences(&report, &other);
    assert_eq!(found.len(), 2, "{found:?}");
}

/// Proves that a daemon which has not dropped its ids regains them.
fn ids_that_were_not_dropped_are_regained() {
    let scenario = scenario!().from_state(|state| {
        state.ids = Some(Ids {
            uid: [65534, 65534, 0],
            gid: [65534, 65534, 0],
            groups: None,
        });
    });
    let regained = scenario.start().try_to_regain(0, 0);
    let has = |call: &str| regained.succeeded.iter().any(|found| found == call);
    assert!(has("setegid(0)") && has("seteuid(0)"), "{regained:?}");
}

/// Proves that a daemon without a jail gets out.
fn a_climb_without_a_jail_reaches_the_root() {
    let run = scenario!().start();
    let places = run.try_to_escape();
    assert_eq!(places, [Place::of("/".as_ref()).unwrap()]);
}

fn a_held_start_waits_to_proceed() {
    let run = scenario!()
        .privileged_action([Step::Hold, Step::Observe])
        .launch();
    let held = run.held();
    assert!(!run.has_sent(|message| matches!(message, Message::Observed(_))));
    run.proceed_to_success();
    assert_eq!(run.observed().pid, held.pid);
    assert_eq!(run.report().pid, held.pid);
}

/// Proves that the harness finds a process that is left behind.
fn a_process_left_behind_is_found() {
    let run = scenario!().privileged_action([Step::ForkWorker]).start();
    let worker = run.worker();
    run.kill_daemon();
    assert_eq!(run.living(), [worker]);
    catch(|| run.assert_nothing_left()).unwrap_err();
}

fn a_held_lock_is_seen() {
    let scenario = scenario!().pid_file("daemon.pid");
    let run = scenario.start();
    assert!(run.pid_file().unwrap().locked);
    run.exit(0);
    assert!(!run.pid_file().unwrap().locked);
}

fn a_passed_deadline_is_reported_with_diagnostics() {
    let scenario = scenario!().privileged_action([Step::Hold]);
    let run = scenario.deadline(scaled(Duration::from_secs(2))).launch();
    let held = run.held();
    let text = catch(|| run.launcher()).unwrap_err();
    assert!(text.contains("the launcher's end: the deadline has passed"));
    assert!(text.contains(&format!("from {}: Holding", held.pid)));
}

fn a_slowness_that_is_not_a_positive_number_is_refused() {
    let suite = std::env::current_exe().unwrap();
    for value in ["0", "-1", "fast", "inf", ""] {
        let mut command = Command::new(&suite);
        let output = command.arg("--list").env(SLOWNESS, value).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
        let text = format!(
            "TESTER_SLOWNESS is {value:?}: set it to a positive number of at most 1000, or unset it\n"
        );
        assert_eq!(String::from_utf8(output.stderr).unwrap(), text);
    }
}

fn the_skipped_cases_of_another_platform_are_known() {
    let ask = |list: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.env(SKIPS_OF, list).output().unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.success(), stdout, stderr)
    };
    let (_, of_root, _) = ask("macos-root");
    let (_, of_user, _) = ask("macos-user");
    let (needs_linux, needs_root) = (
        "tester::the_initial_user_namespace_is_set_up # needs root, needs Linux, needs user namespaces\n",
        "tester::the_initial_ids_and_groups_are_set_up # needs root\n",
    );
    assert!(of_user.contains(needs_linux) && of_user.contains(needs_root));
    assert!(of_root.contains(
        "tester::the_initial_user_namespace_is_set_up # needs Linux, needs user namespaces\n"
    ));
    assert!(!of_root.contains("the_initial_ids_and_groups_are_set_up"));
    for list in ["macos", "linux-root", "macos-nobody"] {
        let refusal =
            format!("TESTER_SKIPS_OF is {list:?}, which names no list of another platform\n");
        assert_eq!(ask(list), (false, String::new(), refusal));
    }
}

fn each_process_of_a_held_start_can_be_killed() {
    for kill in [
        |run: &Run| drop(run.kill_launcher()),
        Run::kill_intermediate,
        Run::kill_held,
    ] {
        let run = scenario!().privileged_action([Step::Hold]).launch();
        run.held();
        kill(&run);
    }
}

fn output_may_go_to_pipes() {
    let scenario = scenario!()
        .piped()
        .from_state(|state| state.unflushed_rust = Some("text".to_owned()));
    let run = scenario.launch();
    run.launcher().assert().success().stdout("text").stderr("");
}

fn dropping_a_run_ends_a_daemon_that_receives_no_command() {
    // A stopped daemon does not notice the end of the harness.
    let steps = [Step::Observe, Step::KillItself(libc::SIGSTOP)];
    let run = scenario!().privileged_action(steps).launch();
    let pid = run.observed().pid;
    let daemon = run.handle(pid);
    drop(run);
    assert!(daemon.wait(Instant::now()).unwrap());
}
