//! The launcher returns when the daemon serves, not before; and what keeps
//! the daemon from serving is what the launcher returns.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use tester::config::{
    Deferral, Disposition, Entry, ErrorText, Fallible, Life, PanicHook, ReadinessUse, Step, Stream,
};
use tester::control::{Frame, Message};
use tester::report::{Place, StartError};
use tester::sys::ProcessHandle;
use tester::{Run, Scenario, case, scenario, suite};

fn main() -> ExitCode {
    suite(&[
        case!(the_launcher_waits_until_the_daemon_is_ready),
        case!(ready_returns_when_the_start_is_committed),
        case!(ready_may_be_reported_from_another_thread),
        case!(a_start_without_deferral_waits_for_the_closures),
        case!(a_failure_to_get_ready_reaches_the_launcher),
        case!(a_failure_may_be_returned_so_that_destructors_run),
        case!(what_a_server_returns_before_it_is_ready_reaches_the_launcher),
        case!(a_panic_of_a_server_reaches_the_launcher),
        case!(a_readiness_dropped_unused_fails_the_start),
        case!(a_daemon_that_goes_on_after_the_drop_is_ended),
        case!(a_daemon_that_ends_after_the_drop_is_not_signalled),
        case!(a_readiness_dropped_by_a_panic_tells_the_panic),
        case!(an_exit_before_ready_is_not_success),
        case!(a_death_by_signal_is_told_at_once),
        case!(a_worker_that_holds_everything_does_not_hide_a_death),
        case!(an_abort_is_told_at_once),
        case!(closures_run_in_order_and_hand_on_their_results),
        case!(the_pid_is_written_after_initialize_has_run),
        case!(initialize_runs_in_the_jail_and_without_privileges, needs Root),
        case!(the_text_of_an_error_reaches_the_launcher),
        case!(the_text_of_a_panic_reaches_the_launcher),
        case!(a_long_text_is_cut),
        case!(both_sides_are_told_the_same_text),
        case!(the_causes_of_an_error_reach_the_launcher),
        case!(a_text_of_several_lines_stays_readable),
        case!(control_characters_in_a_text_are_escaped),
        case!(a_text_that_panics_is_survived),
        case!(a_daemon_that_is_late_is_asked_to_end),
        case!(a_late_daemon_that_does_not_listen_is_killed),
        case!(the_time_counts_wherever_the_daemon_is_slow),
        case!(a_daemon_in_time_is_left_alone),
        case!(a_time_without_end_is_no_time_at_all),
        case!(a_daemon_whose_launcher_dies_ends),
        case!(ready_without_a_launcher_returns_an_error_under_execute),
        case!(ready_without_a_launcher_ends_the_process_under_start),
        case!(a_copy_of_the_process_cannot_report),
        case!(a_copy_with_the_daemons_pid_cannot_report, needs Root, Mounting),
        case!(every_way_to_start_takes_every_closure),
        case!(every_way_to_start_tells_every_failure),
        case!(a_panic_hook_of_the_programs_does_not_hide_the_text),
        case!(a_panic_that_was_survived_is_not_the_cause_of_what_follows),
        case!(a_panic_that_aborts_tells_its_text, needs AbortingTester),
        case!(a_panic_hook_does_not_hide_the_text_of_a_panic_that_aborts, needs AbortingTester),
    ])
}

const ENTRIES: [Entry; 4] = [
    Entry::Start,
    Entry::Execute,
    Entry::StartChecked,
    Entry::ExecuteChecked,
];

/// A case whose daemon uses its readiness like this.
fn deferring(steps: impl Into<Vec<Step>>, usage: ReadinessUse) -> Scenario {
    scenario!()
        .pid_file("daemon.pid")
        .deferred_readiness(Deferral::new(steps, usage))
}

/// The three places at which the daemon runs code of the caller's before it
/// is ready.
fn at_each_place(steps: &[Step]) -> [Scenario; 3] {
    [
        scenario!().pid_file("daemon.pid").privileged_action(steps),
        scenario!().pid_file("daemon.pid").initialize(steps),
        deferring(steps, ReadinessUse::Ready),
    ]
}

fn has_said(run: &Run, message: &Message) -> bool {
    run.messages().iter().any(|frame| frame.message == *message)
}

#[track_caller]
fn await_message(run: &Run, message: &Message) -> u32 {
    run.message(&format!("{message:?}"), |frame| {
        (frame.message == *message).then_some(frame.sender)
    })
}

#[track_caller]
fn assert_error(error: &StartError, kind: &str, text: &str) {
    assert_eq!((error.kind_name(), error.text.as_str()), (kind, text));
}

// --- Readiness ---------------------------------------------------------------

fn the_launcher_waits_until_the_daemon_is_ready() {
    let run = deferring([Step::Hold], ReadinessUse::Ready).launch();
    let daemon = run.held();
    // By then the library has returned in the daemon.
    assert_eq!(run.report().pid, daemon.pid);
    run.assert_launcher_waits();
    assert!(!has_said(&run, &Message::Acknowledged));
    run.proceed();
    run.launcher().assert().success().stdout("").stderr("");
    assert_eq!(await_message(&run, &Message::Acknowledged), daemon.pid);
}

fn ready_returns_when_the_start_is_committed() {
    let run = deferring([Step::Observe], ReadinessUse::Ready).launch();
    let intermediate = run.observed().ppid;
    assert_ne!(intermediate, run.reaper());
    await_message(&run, &Message::Acknowledged);
    // From now on nothing that happens to the launcher matters.
    run.signal_launcher(libc::SIGKILL);
    assert_eq!(run.observe().ppid, run.reaper());
    run.launcher();
    assert_eq!(run.observe().ppid, run.reaper());
    let pid_file = run.pid_file().unwrap();
    let content = format!("{}\n", run.report().pid);
    assert_eq!(pid_file.bytes, content.as_bytes());
    assert!(pid_file.locked);
}

fn ready_may_be_reported_from_another_thread() {
    let mut deferral = Deferral::new([Step::Hold], ReadinessUse::Ready);
    deferral.in_thread = true;
    let run = scenario!().deferred_readiness(deferral).launch();
    let daemon = run.held();
    run.assert_launcher_waits();
    run.proceed();
    run.launcher().assert().success();
    assert_eq!(await_message(&run, &Message::Acknowledged), daemon.pid);
    assert_eq!(run.observe().pid, daemon.pid);
}

fn a_start_without_deferral_waits_for_the_closures() {
    let [action, initialize, _] = at_each_place(&[Step::Hold]);
    for scenario in [action, initialize] {
        let run = scenario.launch();
        run.held();
        run.assert_launcher_waits();
        run.proceed();
        run.launcher().assert().success();
        run.report();
    }
}

fn a_failure_to_get_ready_reaches_the_launcher() {
    for entry in ENTRIES {
        let usage = ReadinessUse::Fail("no port is free".into());
        let scenario = deferring([], usage).entry(entry);
        let scenario = scenario
            .stderr(Stream::append("log"))
            .from_state(|state| state.at_exit_handler = true);
        let run = scenario.launch();
        let error = run.launcher_error();
        run.assert_nothing_left();
        assert_error(
            &error,
            "NotReady",
            "the daemon is not ready: no port is free",
        );
        // It is the launcher's to say so.
        assert_eq!(
            std::fs::read(scenario.path("log")).unwrap(),
            b"",
            "{}",
            run.account()
        );
        // It has ended by _exit(2), and in no other way.
        let daemon = run.report().pid;
        let exits: Vec<_> = run.messages();
        assert!(
            exits
                .iter()
                .all(|frame| frame.sender != daemon || frame.message != Message::AtExit),
            "{}",
            run.account()
        );
    }
}

fn at_exit_was_run_by(run: &Run, process: u32) -> bool {
    let frames = run.messages();
    let by = |frame: &Frame| frame.sender == process && frame.message == Message::AtExit;
    frames.iter().any(by)
}

/// By a daemon that then ends by itself.
fn a_failure_may_be_returned_so_that_destructors_run() {
    let text = "the daemon is not ready: no port is free";
    for entry in ENTRIES {
        let usage = ReadinessUse::FailAndReturn("no port is free".into());
        let scenario = deferring([], usage).entry(entry).life(Life::Exit(0));
        let scenario = scenario.from_state(|state| {
            state.at_exit_handler = true;
            let disposition = (libc::SIGTERM, Disposition::TellAndExit);
            state.dispositions.push(disposition);
        });
        let run = scenario.launch();
        assert_error(&run.launcher_error(), "NotReady", text);
        run.assert_nothing_left();
        let (daemon, error) = run.message("the error", |frame| match &frame.message {
            Message::NotAcknowledged(error) => Some((frame.sender, error.clone())),
            _ => None,
        });
        assert_error(&error, "NotReady", text);
        assert!(at_exit_was_run_by(&run, daemon), "{}", run.account());
        assert!(!has_said(&run, &Message::Signalled(libc::SIGTERM)));
    }
}

fn what_a_server_returns_before_it_is_ready_reaches_the_launcher() {
    let causes = ["no server", "cannot read app.toml"].map(str::to_owned);
    let server = Fallible::from(ErrorText::Chain(causes.to_vec()));
    for in_thread in [false, true] {
        let mut deferral = Deferral::new([], ReadinessUse::Serve(server.clone()));
        deferral.in_thread = in_thread;
        let scenario = scenario!().pid_file("daemon.pid").life(Life::Exit(0));
        let run = scenario.deferred_readiness(deferral).launch();
        let error = run.launcher_error();
        run.assert_nothing_left();
        let text = "no server: cannot read app.toml";
        assert_error(
            &error,
            "NotReady",
            &format!("the daemon is not ready: {text}"),
        );
        await_message(&run, &Message::Served(Err(text.to_owned())));
    }
    // One that is ready before it returns.
    let run = deferring([], ReadinessUse::Serve(Fallible::default())).start();
    await_message(&run, &Message::Acknowledged);
    await_message(&run, &Message::Served(Ok(())));
}

fn a_panic_of_a_server_reaches_the_launcher() {
    for steps in [
        vec![Step::Panic("out of luck".to_owned())],
        vec![
            Step::SetPanicHook(PanicHook::Silent),
            Step::Panic("out of luck".to_owned()),
        ],
    ] {
        let usage = ReadinessUse::Serve(Fallible::from(steps));
        assert_error(
            &deferring([], usage).fail(),
            "NotReady",
            "the daemon is not ready: panic: out of luck",
        );
    }
}

fn a_readiness_dropped_unused_fails_the_start() {
    for in_thread in [false, true] {
        let mut deferral = Deferral::new([], ReadinessUse::Drop);
        deferral.in_thread = in_thread;
        let scenario = scenario!().pid_file("daemon.pid");
        assert_error(
            &scenario.deferred_readiness(deferral).fail(),
            "NotReady",
            "the daemon is not ready: its readiness was dropped unused",
        );
    }
}

fn a_daemon_that_goes_on_after_the_drop_is_ended() {
    for (disposition, least) in [
        // One second of its own, and another one after SIGTERM.
        (Disposition::TellAndExit, Duration::from_secs(1)),
        (Disposition::Tell, Duration::from_secs(2)),
    ] {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = deferring([], ReadinessUse::Drop)
                .entry(entry)
                .from_state(|state| state.dispositions.push((libc::SIGTERM, disposition)));
            let began = Instant::now();
            let run = scenario.launch();
            let error = run.launcher_error();
            let took = began.elapsed();
            run.assert_nothing_left();
            assert_eq!(error.kind, "NotReady");
            await_message(&run, &Message::Signalled(libc::SIGTERM));
            assert!(took >= least, "{took:?}");
        }
    }
}

fn a_daemon_that_ends_after_the_drop_is_not_signalled() {
    let scenario = deferring([], ReadinessUse::Drop)
        .life(Life::Exit(0))
        .from_state(|state| {
            state
                .dispositions
                .push((libc::SIGTERM, Disposition::TellAndExit));
        });
    let run = scenario.launch();
    assert_eq!(run.launcher_error().kind, "NotReady");
    run.assert_nothing_left();
    assert!(!has_said(&run, &Message::Signalled(libc::SIGTERM)));
}

fn a_readiness_dropped_by_a_panic_tells_the_panic() {
    for in_thread in [false, true] {
        let usage = ReadinessUse::DropByPanic("out of luck".into());
        let mut deferral = Deferral::new([], usage);
        deferral.in_thread = in_thread;
        let scenario = scenario!().pid_file("daemon.pid");
        assert_error(
            &scenario.deferred_readiness(deferral).fail(),
            "NotReady",
            "the daemon is not ready: panic: out of luck",
        );
    }
}

// --- Deaths ------------------------------------------------------------------

fn an_exit_before_ready_is_not_success() {
    for status in [0, 3] {
        for scenario in at_each_place(&[Step::Exit(status)]) {
            let error = scenario.fail();
            assert_error(
                &error,
                "DaemonExited",
                &format!(
                    "the daemon ended before it was ready (exit status: {status}); \
                     its standard error is /dev/null: set `stderr` to see its messages"
                ),
            );
            assert_eq!(error.daemon_exit_status, Some(status << 8));
        }
    }
}

fn a_death_by_signal_is_told_at_once() {
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        for scenario in at_each_place(&[Step::KillItself(signal)]) {
            let error = scenario.fail();
            assert_eq!(error.kind, "DaemonExited");
            assert_eq!(error.daemon_exit_status, Some(signal));
            let cause = format!("(signal: {signal} ");
            assert!(error.text.contains(&cause), "{error}");
        }
    }
}

fn a_worker_that_holds_everything_does_not_hide_a_death() {
    let ends = [
        (Step::KillItself(libc::SIGKILL), libc::SIGKILL),
        (Step::Exit(0), 0),
    ];
    for (end, status) in ends {
        for scenario in at_each_place(&[Step::ForkWorker, end]) {
            let run = scenario.launch();
            let error = run.launcher_error();
            assert_eq!(error.kind, "DaemonExited");
            assert_eq!(error.daemon_exit_status, Some(status));
            let worker = run.message("the worker", |frame| match frame.message {
                Message::Worker(pid) => Some(pid),
                _ => None,
            });
            // The worker is the closure's, and lives: what was told was not
            // its end.
            run.assert_nothing_left_but(&[worker]);
            assert!(run.launcher().process(worker).is_some());
        }
    }
}

fn an_abort_is_told_at_once() {
    for scenario in at_each_place(&[Step::Abort]) {
        let error = scenario.fail();
        assert_eq!(error.kind, "DaemonExited");
        // The bit of a core dump may be set.
        let status = error.daemon_exit_status.unwrap();
        assert_eq!(status & 0x7f, libc::SIGABRT);
    }
}

// --- Initialization ----------------------------------------------------------

fn add(part: &str) -> Vec<Step> {
    vec![Step::Add(part.to_owned())]
}

fn parts(run: &Run) -> Vec<String> {
    run.message("the daemon's result", |frame| match &frame.message {
        Message::Result(parts) => Some(parts.clone()),
        _ => None,
    })
}

fn closures_run_in_order_and_hand_on_their_results() {
    let run = scenario!()
        .privileged_action(add("action"))
        .initialize(add("first"))
        .initialize(add("second"))
        .start();
    assert_eq!(parts(&run), ["action", "first", "second"]);
    let run = scenario!()
        .initialize(add("first"))
        .deferred_readiness(Deferral::new([], ReadinessUse::Ready))
        .start();
    assert_eq!(parts(&run), ["first"]);
    // What a closure has opened stays open.
    let run = scenario!()
        .try_privileged_action([Step::Listen])
        .initialize(add("first"))
        .start();
    std::net::TcpStream::connect(("127.0.0.1", run.port())).unwrap();
}

fn the_pid_is_written_after_initialize_has_run() {
    let run = scenario!()
        .pid_file("daemon.pid")
        .initialize([Step::Hold])
        .launch();
    let daemon = run.held();
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.bytes.is_empty() && pid_file.locked);
    run.assert_launcher_waits();
    run.proceed();
    run.launcher().assert().success();
    let pid_file = run.pid_file().unwrap();
    assert_eq!(pid_file.bytes, format!("{}\n", daemon.pid).as_bytes());
    assert!(pid_file.locked);
}

fn initialize_runs_in_the_jail_and_without_privileges() {
    let scenario = scenario!().pid_file("daemon.pid");
    let jail = scenario.create_folder("jail");
    let run = scenario
        .user(65534)
        .group(65534)
        .chroot(&jail)
        .privileged_action([Step::Observe])
        .initialize([Step::Hold])
        .launch();
    let jail = Place::of(&jail).unwrap();
    let (before, after) = (run.observed(), run.held());
    assert_eq!(before.pid, after.pid);
    assert!(before.uid.unwrap() == 0 && before.root != Some(jail.clone()));
    assert!(after.uid.unwrap() == 65534 && after.gid.unwrap() == 65534);
    assert_eq!(after.groups.as_deref(), Some([65534].as_slice()));
    if let Some(root) = after.root {
        assert_eq!(root, jail);
    }
    assert_eq!(after.working_directory, Some(jail));
    assert_eq!(run.pid_file().unwrap().bytes, b"");
    run.assert_launcher_waits();
    run.proceed();
    run.launcher().assert().success();
    assert!(run.report().uid.unwrap() == 65534);
}

// --- Texts -------------------------------------------------------------------

/// The three that carry an error's text, with what comes before it.
fn failing_with(error: &ErrorText) -> [(Scenario, &'static str, &'static str); 3] {
    let fallible = Fallible::from(error.clone());
    [
        (
            scenario!().try_privileged_action(fallible.clone()),
            "PrivilegedAction",
            "the privileged action failed",
        ),
        (
            scenario!().initialize(fallible),
            "Initialize",
            "the initialization failed",
        ),
        (
            deferring([], ReadinessUse::Fail(error.clone())),
            "NotReady",
            "the daemon is not ready",
        ),
    ]
}

fn the_text_of_an_error_reaches_the_launcher() {
    for (scenario, kind, start) in failing_with(&"the disk is full: /srv, naïvely".into()) {
        let text = format!("{start}: the disk is full: /srv, naïvely");
        assert_error(&scenario.pid_file("daemon.pid").fail(), kind, &text);
    }
    for (scenario, kind, start) in failing_with(&"".into()) {
        assert_error(&scenario.fail(), kind, start);
    }
}

fn the_text_of_a_panic_reaches_the_launcher() {
    let [action, initialize, _] = at_each_place(&[Step::Panic("out of luck".to_owned())]);
    let try_action = scenario!()
        .try_privileged_action([Step::Panic("out of luck".to_owned())])
        .initialize([Step::Observe]);
    for scenario in [action, initialize, try_action] {
        assert_error(&scenario.fail(), "Panicked", "panic: out of luck");
    }
}

/// 10 kB of characters that are two bytes long each, and start at an odd one.
fn long_text() -> String {
    std::iter::once('x')
        .chain(std::iter::repeat_n('ä', 5000))
        .collect()
}

fn failing_at_length() -> impl Iterator<Item = (Scenario, &'static str, &'static str)> {
    let panicking = scenario!().initialize([Step::Panic(long_text())]);
    failing_with(&ErrorText::Text(long_text()))
        .into_iter()
        .chain([(panicking, "Panicked", "panic")])
}

fn a_long_text_is_cut() {
    for (scenario, kind, start) in failing_at_length() {
        let error = scenario.fail();
        assert_eq!(error.kind, kind);
        let told = error.text.strip_prefix(&format!("{start}: ")).unwrap();
        assert!(long_text().starts_with(told), "{told}");
        assert!((2000..=2048).contains(&told.len()), "{}", told.len());
    }
}

fn both_sides_are_told_the_same_text() {
    for (scenario, kind, _) in failing_at_length().filter(|(_, kind, _)| *kind != "NotReady") {
        let run = scenario.entry(Entry::Execute).launch();
        let (error, told) = (run.launcher_error(), run.daemon_error());
        assert_eq!((error.kind.as_str(), told.kind.as_str()), (kind, kind));
        assert!(told.text == error.text, "{} bytes", told.text.len());
    }
}

fn the_causes_of_an_error_reach_the_launcher() {
    let causes = ["no server", "cannot read app.toml", "no such file"];
    let error = ErrorText::Chain(causes.map(str::to_owned).to_vec());
    for (scenario, kind, start) in failing_with(&error) {
        let text = format!("{start}: no server: cannot read app.toml: no such file");
        assert_error(&scenario.fail(), kind, &text);
    }
}

/// As parsers of configuration files say what is wrong, and where.
const PARSE_ERROR: &str = "\
TOML parse error at line 3, column 8
  |
3 | port = = 80
  |        ^
invalid string
";

/// The lines keep their places below each other, and none begins where another
/// program's message would.
fn a_text_of_several_lines_stays_readable() {
    let below = "
    TOML parse error at line 3, column 8
      |
    3 | port = = 80
      |        ^
    invalid string";
    for (scenario, kind, start) in failing_with(&PARSE_ERROR.into()) {
        assert_error(&scenario.fail(), kind, &format!("{start}:{below}"));
    }
    let panicking = scenario!().privileged_action([Step::Panic(PARSE_ERROR.to_owned())]);
    assert_error(&panicking.fail(), "Panicked", &format!("panic:{below}"));
    // A first line that is the source itself, and line ends of another system.
    for (scenario, kind, start) in failing_with(&"\r\n  a = = b\r\n\r\n\t  ^\r\n".into()) {
        let text = format!("{start}:\n      a = = b\n\n    \t  ^");
        assert_error(&scenario.fail(), kind, &text);
    }
}

fn control_characters_in_a_text_are_escaped() {
    let text = "over\rwritten\t\u{1b}[2J\0\u{7f}\u{9b}1m\u{202e}gpj\u{2028}.exe\u{2066}";
    let escaped =
        "over\\rwritten\t\\u{1b}[2J\\u{0}\\u{7f}\\u{9b}1m\\u{202e}gpj\\u{2028}.exe\\u{2066}";
    for (scenario, kind, start) in failing_with(&text.into()) {
        let told = format!("{start}: {escaped}");
        assert_error(&scenario.fail(), kind, &told);
    }
    let panicking = scenario!().privileged_action([Step::Panic(text.to_owned())]);
    let told = format!("panic: {escaped}");
    assert_error(&panicking.fail(), "Panicked", &told);
}

fn a_text_that_panics_is_survived() {
    let error = ErrorText::PanicsAfter("so far".to_owned());
    for (scenario, kind, start) in failing_with(&error) {
        let told = format!("{start}: so far (the text of this error panicked)");
        assert_error(&scenario.fail(), kind, &told);
    }
}

// --- Time --------------------------------------------------------------------

/// Longer than a daemon takes to get as far as it is to on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a daemon that is late; returns how long the launcher has waited.
#[track_caller]
fn time_out(scenario: Scenario, disposition: Disposition, step: &str) -> (Run, Duration) {
    let scenario = scenario
        .startup_timeout(TIMEOUT)
        .from_state(|state| state.dispositions.push((libc::SIGTERM, disposition)));
    let began = Instant::now();
    let run = scenario.launch();
    let error = run.launcher_error();
    let took = began.elapsed();
    let text = format!(
        "the daemon was not ready in time: the startup timeout of 1s ran out {step}; \
         the daemon was terminated"
    );
    assert_error(&error, "StartupTimeout", &text);
    run.assert_nothing_left();
    (run, took)
}

/// Where a readiness is kept.
const UNTIL_READY: &str = "before the daemon used its `Readiness`";

fn a_daemon_that_is_late_is_asked_to_end() {
    let scenario = deferring([], ReadinessUse::Keep);
    let (run, took) = time_out(scenario, Disposition::TellAndExit, UNTIL_READY);
    await_message(&run, &Message::Signalled(libc::SIGTERM));
    assert!(took >= TIMEOUT, "{took:?}");
}

fn a_late_daemon_that_does_not_listen_is_killed() {
    let least = TIMEOUT + Duration::from_secs(1);
    let scenario = deferring([], ReadinessUse::Keep);
    let (run, took) = time_out(scenario, Disposition::Tell, UNTIL_READY);
    await_message(&run, &Message::Signalled(libc::SIGTERM));
    assert!(took >= least, "{took:?}");
    let scenario = deferring([], ReadinessUse::Keep);
    let (_, took) = time_out(scenario, Disposition::Ignore, UNTIL_READY);
    assert!(took >= least, "{took:?}");
}

fn the_time_counts_wherever_the_daemon_is_slow() {
    thread::scope(|scope| {
        for entry in ENTRIES {
            for scenario in at_each_place(&[Step::Hold]) {
                scope.spawn(move || {
                    let config = &scenario.config;
                    let step = match (&config.deferred_readiness, config.initialize.is_empty()) {
                        (Some(_), _) => UNTIL_READY,
                        (None, false) => "during the initialization",
                        (None, true) => "during the privileged action",
                    };
                    let (run, _) = time_out(scenario.entry(entry), Disposition::Default, step);
                    run.held();
                });
            }
        }
    });
    // No time at all is too little.
    let scenario = deferring([], ReadinessUse::Keep).startup_timeout(Duration::ZERO);
    assert_eq!(scenario.fail().kind, "StartupTimeout");
}

fn a_daemon_in_time_is_left_alone() {
    let timeout = Duration::from_secs(2);
    let began = Instant::now();
    let run = scenario!()
        .initialize([Step::Observe])
        .startup_timeout(timeout)
        .from_state(|state| {
            state
                .dispositions
                .push((libc::SIGTERM, Disposition::TellAndExit));
        })
        .start();
    let daemon = ProcessHandle::open(run.report().pid).unwrap().unwrap();
    let time_is_up = began + timeout + Duration::from_millis(200);
    assert!(!daemon.wait(time_is_up).unwrap(), "{}", run.account());
    run.observe();
}

fn a_time_without_end_is_no_time_at_all() {
    // More than the clock can count to.
    let run = scenario!()
        .startup_timeout(Duration::from_millis(u64::MAX))
        .start();
    run.launcher().assert().success();
}

// --- Without the launcher ----------------------------------------------------

fn a_daemon_whose_launcher_dies_ends() {
    for signal in [libc::SIGKILL, libc::SIGINT, libc::SIGHUP] {
        for disposition in [Disposition::Default, Disposition::Ignore] {
            let scenario = deferring([], ReadinessUse::Keep).from_state(|state| {
                state.dispositions.push((libc::SIGTERM, disposition));
            });
            let run = scenario.launch();
            run.report();
            run.signal_launcher(signal);
            run.launcher().assert().interrupted();
            run.wait_until_all_ended();
            let pid_file = run.pid_file().unwrap();
            assert!(pid_file.bytes.is_empty() && !pid_file.locked);
        }
    }
}

/// A daemon that nobody has told of its launcher's death: the intermediate is
/// killed before, while the launcher cannot notice.
fn without_launcher(entry: Entry) -> (Run, u32) {
    let run = deferring([Step::Hold], ReadinessUse::Ready)
        .entry(entry)
        .launch();
    let daemon = run.held();
    run.signal_launcher(libc::SIGSTOP);
    run.kill_intermediate();
    run.kill_launcher();
    (run, daemon.pid)
}

fn ready_without_a_launcher_returns_an_error_under_execute() {
    for entry in [Entry::Execute, Entry::ExecuteChecked] {
        let (run, daemon) = without_launcher(entry);
        run.proceed();
        let (sender, error) = run.message("an answer", |frame| match &frame.message {
            Message::NotAcknowledged(error) => Some((frame.sender, error.clone())),
            _ => None,
        });
        assert_eq!(sender, daemon);
        assert_error(&error, "LauncherGone", "the launcher is gone");
        // It lives on, without a pid file.
        assert_eq!(run.observe().pid, daemon);
        let pid_file = run.pid_file().unwrap();
        assert!(pid_file.bytes.is_empty() && !pid_file.locked);
    }
}

fn ready_without_a_launcher_ends_the_process_under_start() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let (run, _) = without_launcher(entry);
        run.proceed();
        run.wait_until_all_ended();
        assert!(run.messages().iter().all(|frame| !matches!(
            frame.message,
            Message::Acknowledged | Message::NotAcknowledged(_)
        )));
        let pid_file = run.pid_file().unwrap();
        assert!(pid_file.bytes.is_empty() && !pid_file.locked);
    }
}

// --- Copies ------------------------------------------------------------------

fn a_copy_of_the_process_cannot_report() {
    let usages = [
        ReadinessUse::Ready,
        ReadinessUse::Fail("the copy's".into()),
        ReadinessUse::Drop,
        ReadinessUse::DropByPanic("the copy's".to_owned()),
    ];
    for usage in usages {
        let mut deferral = Deferral::new([], ReadinessUse::Ready);
        deferral.in_copy = Some(usage.clone());
        let scenario = scenario!().pid_file("daemon.pid");
        let run = scenario.deferred_readiness(deferral).start();
        let daemon = run.report().pid;
        assert_eq!(await_message(&run, &Message::Acknowledged), daemon);
        let content = format!("{daemon}\n");
        assert_eq!(run.pid_file().unwrap().bytes, content.as_bytes());
        if usage == ReadinessUse::Ready {
            let (copy, error) = run.message("the copy's answer", |frame| match &frame.message {
                Message::NotAcknowledged(error) => Some((frame.sender, error.clone())),
                _ => None,
            });
            await_message(&run, &Message::Copied(copy));
            assert_eq!(error.kind, "NotReady");
        }
    }
}

fn a_copy_with_the_daemons_pid_cannot_report() {
    let mut deferral = Deferral::new([], ReadinessUse::Ready);
    deferral.in_copy = Some(ReadinessUse::Ready);
    deferral.copy_has_same_pid = true;
    let scenario = scenario!().pid_file("daemon.pid");
    let run = scenario.deferred_readiness(deferral).start();
    let daemon = run.report().pid;
    let (copy, error) = run.message("the copy's answer", |frame| match &frame.message {
        Message::NotAcknowledged(error) => Some((frame.sender, error.clone())),
        _ => None,
    });
    assert_eq!(copy, daemon);
    assert_eq!(error.kind, "NotReady");
    assert_eq!(await_message(&run, &Message::Acknowledged), daemon);
}

// --- Combinations ------------------------------------------------------------

fn every_way_to_start_takes_every_closure() {
    for entry in ENTRIES {
        for choice in 0..12 {
            let (action, initialize, defer) = (choice % 3, choice / 3 % 2 == 1, choice / 6 == 1);
            let mut scenario = scenario!().pid_file("daemon.pid").entry(entry);
            let mut expected = vec![];
            if action == 1 {
                scenario = scenario.privileged_action(add("action"));
                expected.push("action");
            }
            if action == 2 {
                scenario = scenario.try_privileged_action(add("try"));
                expected.push("try");
            }
            if initialize {
                scenario = scenario.initialize(add("initialize"));
                expected.push("initialize");
            }
            if defer {
                scenario =
                    scenario.deferred_readiness(Deferral::new([Step::Hold], ReadinessUse::Ready));
            }
            let run = scenario.launch();
            if defer {
                run.held();
                assert!(
                    !run.messages()
                        .iter()
                        .any(|frame| matches!(frame.message, Message::LauncherReturned(_)))
                );
                run.proceed();
            }
            run.launcher().assert().success();
            if !expected.is_empty() {
                assert_eq!(parts(&run), expected);
            }
            let daemon = run.report().pid;
            if entry.returns_in_both() {
                assert_eq!(run.launcher_result().daemon_pid, daemon);
            }
            let content = format!("{daemon}\n");
            let pid_file = run.launcher().pid_file.unwrap();
            assert_eq!(pid_file.bytes, content.as_bytes());
        }
    }
}

fn every_way_to_start_tells_every_failure() {
    let panic = || [Step::Panic("out of luck".to_owned())];
    let error = || Fallible::from(ErrorText::from("no luck"));
    for entry in ENTRIES {
        let cases = [
            (scenario!().privileged_action(panic()), "Panicked"),
            (scenario!().try_privileged_action(panic()), "Panicked"),
            (scenario!().initialize(panic()), "Panicked"),
            (
                scenario!().try_privileged_action(error()),
                "PrivilegedAction",
            ),
            (scenario!().initialize(error()), "Initialize"),
            (
                scenario!().initialize(add("first")).initialize(error()),
                "Initialize",
            ),
            // The first failure is the one.
            (
                scenario!()
                    .try_privileged_action(error())
                    .initialize(panic())
                    .deferred_readiness(Deferral::new([], ReadinessUse::Drop)),
                "PrivilegedAction",
            ),
        ];
        for (scenario, kind) in cases {
            let run = scenario.pid_file("daemon.pid").entry(entry).launch();
            let error = run.launcher_error();
            assert_eq!(error.kind, kind);
            if entry.returns_in_both() {
                let told = run.daemon_error();
                assert_eq!((told.kind, told.text), (error.kind, error.text));
            }
            // The daemon's side ends by itself.
            run.wait_until_all_ended();
            let pid_file = run.pid_file().unwrap();
            assert!(pid_file.bytes.is_empty() && !pid_file.locked);
            assert!(
                run.messages()
                    .iter()
                    .all(|frame| !matches!(frame.message, Message::Daemon(_)))
            );
        }
    }
}

// --- Panic hooks ---

const HOOKS: [PanicHook; 4] = [
    PanicHook::Silent,
    PanicHook::Exits,
    PanicHook::Aborts,
    PanicHook::ExitsAfterTheOneBefore,
];

/// Panics at each place, where the program has a hook of its own: from before the
/// start, and set right before the panic.
fn assert_text_comes_through(new: impl Fn() -> Scenario) {
    for hook in HOOKS {
        for is_set_before in [false, true] {
            let panic = Step::Panic("the port table is empty".to_owned());
            let steps = match is_set_before {
                true => vec![panic],
                false => vec![Step::SetPanicHook(hook), panic],
            };
            let deferral = Deferral::new(steps.clone(), ReadinessUse::Ready);
            let cases = [
                (new().privileged_action(steps.clone()), "Panicked"),
                (new().try_privileged_action(steps.clone()), "Panicked"),
                (new().initialize(steps), "Panicked"),
                (new().deferred_readiness(deferral), "NotReady"),
            ];
            for (mut scenario, kind) in cases {
                if is_set_before {
                    scenario = scenario.from_state(|state| state.panic_hook = Some(hook));
                }
                let error = scenario.fail();
                let which = format!("{hook:?}, set before: {is_set_before}, {kind}: {error}");
                // Where the hook has called the library's and then exits, the
                // library has done its work.
                let kinds = match hook {
                    PanicHook::ExitsAfterTheOneBefore => vec![kind, "DaemonExited"],
                    _ => vec![kind],
                };
                assert!(kinds.contains(&error.kind_name()), "{which}");
                let text = "panic: the port table is empty";
                assert!(error.text.ends_with(text), "{which}");
            }
        }
    }
}

fn a_panic_hook_of_the_programs_does_not_hide_the_text() {
    assert_text_comes_through(|| scenario!().pid_file("daemon.pid"));
}

/// It is told all the same: it may be what the process ended for.
fn a_panic_that_was_survived_is_not_the_cause_of_what_follows() {
    let mut deferral = Deferral::new([], ReadinessUse::Fail("no port is free".into()));
    deferral.in_copy = Some(ReadinessUse::DropByPanic("the copy's".to_owned()));
    assert_error(
        &scenario!().deferred_readiness(deferral).fail(),
        "NotReady",
        "the daemon is not ready: no port is free",
    );
    let survived = Step::PanicAndCatch("out of luck".to_owned());
    let fail = ReadinessUse::Fail("no port is free".into());
    assert_error(
        &deferring([survived.clone()], fail).fail(),
        "NotReady",
        "the daemon is not ready: no port is free",
    );
    let error = deferring([survived.clone(), Step::Exit(3)], ReadinessUse::Ready).fail();
    assert_error(
        &error,
        "DaemonExited",
        "the daemon ended before it was ready (exit status: 3); panic: out of luck",
    );
    assert_eq!(error.daemon_exit_status, Some(3 << 8));
    deferring([survived], ReadinessUse::Ready).start();
}

// --- Aborting panics ---------------------------------------------------------

fn a_panic_that_aborts_tells_its_text() {
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
            (
                scenario().deferred_readiness(Deferral::new([], dropping.clone())),
                "NotReady",
            ),
            (scenario().deferred_readiness(in_thread.clone()), "NotReady"),
        ];
        for (scenario, kind) in cases {
            let error = scenario.entry(entry).fail();
            assert_eq!(error.kind, kind, "{error}");
            let text = "panic:\n    out of\n    luck";
            assert!(error.text.ends_with(text), "{error}");
        }
    }
    // Once the start is committed, a panic is the daemon's own affair.
    let deferral = Deferral::new([], ReadinessUse::Ready);
    scenario().deferred_readiness(deferral).start();
}

fn a_panic_hook_does_not_hide_the_text_of_a_panic_that_aborts() {
    let tester = PathBuf::from(std::env::var_os(suite::ABORTING_TESTER).unwrap());
    assert_text_comes_through(|| Scenario::new(&tester).pid_file("daemon.pid"));
}
