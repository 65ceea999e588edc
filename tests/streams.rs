//! Standard streams end up as configured, whatever they were, and nothing
//! else is open.

use std::process::ExitCode;
use std::time::Instant;

use tester::config::{Access, Entry, InitialState, OpenDescriptor, Step, Stream};
use tester::control::{Command, Message};
use tester::harness::DEADLINE;
use tester::report::{AccessMode, Descriptor, Report};
use tester::{Run, Scenario, case, scenario, suite};

fn main() -> ExitCode {
    suite(&[
        case!(unset_streams_are_the_null_device),
        case!(each_stream_may_be_the_null_device_alone),
        case!(each_stream_may_be_a_file_alone),
        case!(each_stream_may_be_kept_alone),
        case!(a_file_is_opened_as_its_owner_opened_it),
        case!(closed_streams_become_the_null_device),
        case!(closed_streams_that_are_kept_become_the_null_device),
        case!(closed_streams_become_files),
        case!(closed_streams_leave_a_failed_start_as_clean),
        case!(sources_may_be_any_of_the_streams_in_any_order),
        case!(sources_may_be_swapped_standard_streams),
        case!(a_source_that_was_a_stream_stays_in_its_place),
        case!(two_streams_may_have_one_file),
        case!(what_the_daemon_writes_arrives),
        case!(the_librarys_descriptors_are_no_streams_and_close_on_exec),
        case!(nothing_stays_in_the_place_of_a_stream_meanwhile, needs Linux),
        case!(descriptors_of_the_caller_stay_as_they_were),
        case!(unflushed_output_is_written_once),
        case!(unflushed_output_is_written_once_by_a_failed_start),
        case!(exit_handlers_run_once_in_the_daemon),
        case!(exit_handlers_run_in_both_after_execute),
        case!(the_launchers_output_is_not_held_open),
        case!(a_kept_output_is_held_open),
    ])
}

/// Every way to close some of three streams.
fn every_closing() -> impl Iterator<Item = [bool; 3]> {
    (0..8).map(|bits| [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0])
}

/// One of the three streams, set alone.
fn set(scenario: Scenario, number: usize, stream: Stream) -> Scenario {
    match number {
        0 => scenario.stdin(stream),
        1 => scenario.stdout(stream),
        _ => scenario.stderr(stream),
    }
}

/// All three streams.
fn set_all(scenario: Scenario, streams: [Stream; 3]) -> Scenario {
    let [stdin, stdout, stderr] = streams;
    scenario.stdin(stdin).stdout(stdout).stderr(stderr)
}

fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap()
}

#[track_caller]
fn stream(report: &Report, index: usize) -> &Descriptor {
    let found = report.descriptor(number(index));
    found.unwrap_or_else(|| panic!("stream {index} is closed"))
}

#[track_caller]
fn assert_null(report: &Report, index: usize) {
    let stream = stream(report, index);
    assert!(stream.is_null_device(), "{index}: {stream:?}");
    assert_eq!(stream.access, AccessMode::ReadWrite);
}

/// What was open before and the three streams: nothing else, and nothing less.
/// `gone` is a path whose descriptors the library had to close.
#[track_caller]
fn assert_nothing_stray(run: &Run, report: &Report, gone: Option<&std::path::Path>) {
    let initial = run.initial();
    let mut expected: Vec<_> = initial
        .descriptors
        .as_deref()
        .unwrap()
        .iter()
        .filter(|one| gone.is_none_or(|path| !is_below(one, path)))
        .map(|one| one.number)
        .chain(0..3)
        .collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(report.descriptor_numbers(), expected);
    for index in 0..3 {
        assert!(!stream(report, index).close_on_exec, "stream {index}");
    }
}

/// Whether it is one of the sources, which are all files of that folder.
fn is_below(descriptor: &Descriptor, folder: &std::path::Path) -> bool {
    ["0", "1", "2"]
        .iter()
        .any(|name| descriptor.is_file(&folder.join(name)))
}

/// A file named like the stream.
fn file(scenario: &Scenario, index: usize) -> Stream {
    Stream::file(scenario.path(index.to_string()), Access::ReadWrite)
}

// --- Each as configured ---

fn unset_streams_are_the_null_device() {
    let run = scenario!().start();
    let daemon = run.report();
    (0..3).for_each(|index| assert_null(&daemon, index));
    assert_nothing_stray(&run, &daemon, None);
}

fn each_stream_may_be_the_null_device_alone() {
    for index in 0..3 {
        let kept = set_all(scenario!(), [Stream::Keep, Stream::Keep, Stream::Keep]);
        let run = set(kept, index, Stream::DevNull).start();
        let (initial, daemon) = (run.initial(), run.report());
        for other in 0..3 {
            match other == index {
                true => assert_null(&daemon, other),
                false => assert_eq!(stream(&daemon, other), stream(&initial, other)),
            }
        }
        assert_nothing_stray(&run, &daemon, None);
    }
}

fn each_stream_may_be_a_file_alone() {
    for index in 0..3 {
        let scenario = scenario!();
        let source = file(&scenario, index);
        let run = set(scenario.clone(), index, source).start();
        let daemon = run.report();
        for other in 0..3 {
            match other == index {
                true => {
                    let path = scenario.path(index.to_string());
                    assert!(stream(&daemon, other).is_file(&path));
                }
                false => assert_null(&daemon, other),
            }
        }
        assert_nothing_stray(&run, &daemon, Some(scenario.folder()));
    }
}

fn each_stream_may_be_kept_alone() {
    for index in 0..3 {
        let run = set(scenario!(), index, Stream::Keep).start();
        let (initial, daemon) = (run.initial(), run.report());
        for other in 0..3 {
            match other == index {
                true => assert_eq!(stream(&daemon, other), stream(&initial, other)),
                false => assert_null(&daemon, other),
            }
        }
        assert_nothing_stray(&run, &daemon, None);
    }
}

fn a_file_is_opened_as_its_owner_opened_it() {
    let scenario = scenario!()
        .stdin(Stream::read("/dev/zero"))
        .stdout(Stream::append("log"))
        .stderr(Stream::file("both", Access::ReadWrite));
    let daemon = scenario.start().report();
    let of = |index| (stream(&daemon, index).access, stream(&daemon, index).append);
    assert_eq!(of(0), (AccessMode::Read, false));
    assert_eq!(of(1), (AccessMode::Write, true));
    assert_eq!(of(2), (AccessMode::ReadWrite, false));
}

// --- Whatever was open before ---

fn closed_streams_become_the_null_device() {
    for closed in every_closing() {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = scenario!().entry(entry).pid_file("daemon.pid");
            let run = scenario.from_state(|state| state.closed = closed).start();
            let daemon = run.observe();
            (0..3).for_each(|index| assert_null(&daemon, index));
            let pid_file = daemon.descriptors.as_deref().unwrap().iter();
            let path = run.launcher().pid_file.unwrap().place;
            let held = pid_file.filter(|one| (one.device, one.inode) == (path.device, path.inode));
            assert!(held.map(|one| one.number).all(|number| number > 2));
        }
    }
}

fn closed_streams_that_are_kept_become_the_null_device() {
    for closed in every_closing() {
        let scenario = set_all(scenario!(), [Stream::Keep, Stream::Keep, Stream::Keep]);
        let run = scenario.from_state(|state| state.closed = closed).start();
        let (initial, daemon) = (run.initial(), run.report());
        for (index, closed) in closed.into_iter().enumerate() {
            match closed {
                true => assert_null(&daemon, index),
                false => assert_eq!(stream(&daemon, index), stream(&initial, index)),
            }
        }
        assert_nothing_stray(&run, &daemon, None);
    }
}

/// Then the sources are themselves given the lowest numbers.
fn closed_streams_become_files() {
    for closed in every_closing() {
        let scenario = scenario!().from_state(|state| state.closed = closed);
        let sources = [0, 1, 2].map(|index| file(&scenario, index));
        let run = set_all(scenario.clone(), sources).start();
        let daemon = run.report();
        for index in 0..3 {
            let path = scenario.path(index.to_string());
            assert!(stream(&daemon, index).is_file(&path), "{closed:?} {index}");
        }
        assert_nothing_stray(&run, &daemon, Some(scenario.folder()));
    }
}

fn closed_streams_leave_a_failed_start_as_clean() {
    for closed in every_closing() {
        let scenario = scenario!().pid_file("daemon.pid").chroot("missing");
        let run = scenario.from_state(|state| state.closed = closed).launch();
        let error = run.message("the launcher's error", |frame| match &frame.message {
            Message::LauncherFailed(error) => Some(error.clone()),
            _ => None,
        });
        assert_eq!(error.kind_name(), "Chroot");
        run.assert_nothing_left();
    }
}

const ORDERS: [[i32; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

fn sources_may_be_any_of_the_streams_in_any_order() {
    for order in ORDERS {
        let scenario = scenario!();
        let sources = [0, 1, 2].map(|index| file(&scenario, index).at(order[index]));
        let run = set_all(scenario.clone(), sources).start();
        let daemon = run.report();
        for index in 0..3 {
            let path = scenario.path(index.to_string());
            assert!(stream(&daemon, index).is_file(&path), "{order:?} {index}");
        }
        // Their numbers now belong to the streams.
        assert_nothing_stray(&run, &daemon, None);
    }
}

fn sources_may_be_swapped_standard_streams() {
    let scenario = scenario!();
    let run = scenario
        .clone()
        .stdout(file(&scenario, 1).at(2))
        .stderr(file(&scenario, 2).at(1))
        .start();
    let daemon = run.report();
    assert_null(&daemon, 0);
    assert!(stream(&daemon, 1).is_file(&scenario.path("1")));
    assert!(stream(&daemon, 2).is_file(&scenario.path("2")));
    assert_nothing_stray(&run, &daemon, None);
}

/// So the stream is one that is kept, and no longer closed on exec.
fn a_source_that_was_a_stream_stays_in_its_place() {
    let scenario = scenario!();
    let run = scenario
        .clone()
        .stdin(Stream::Keep)
        .stdout(file(&scenario, 1).at(0))
        .start();
    assert!(stream(&run.initial(), 0).close_on_exec);
    let daemon = run.report();
    for index in 0..2 {
        assert!(stream(&daemon, index).is_file(&scenario.path("1")));
    }
    assert_nothing_stray(&run, &daemon, None);
}

fn two_streams_may_have_one_file() {
    let scenario = scenario!();
    let log = Stream::append(scenario.path("1"));
    let run = scenario.clone().stdout(log.clone()).stderr(log).start();
    let daemon = run.report();
    for index in 1..3 {
        assert!(stream(&daemon, index).is_file(&scenario.path("1")));
        assert!(stream(&daemon, index).append);
    }
    assert_nothing_stray(&run, &daemon, Some(scenario.folder()));
}

fn what_the_daemon_writes_arrives() {
    // A panic writes to standard error.
    let steps = [Step::Panic("seen in the log".to_owned())];
    let scenario = scenario!()
        .stderr(Stream::append("log"))
        .privileged_action(steps);
    scenario.launch().launcher_error();
    let log = std::fs::read_to_string(scenario.path("log")).unwrap();
    assert!(log.contains("seen in the log"), "{log}");
}

// --- What else is open meanwhile ---

/// What there is beyond the initial state and the streams.
fn the_librarys(initial: &Report, report: &Report) -> Vec<Descriptor> {
    let before = initial.descriptor_numbers();
    let descriptors = report.descriptors.clone().unwrap().into_iter();
    descriptors
        .filter(|one| !before.contains(&one.number))
        .filter(|one| one.number > 2)
        .collect()
}

fn the_librarys_descriptors_are_no_streams_and_close_on_exec() {
    for closed in every_closing() {
        let scenario = scenario!().pid_file("daemon.pid");
        let run = scenario
            .from_state(|state| state.closed = closed)
            .privileged_action([Step::Observe])
            .start();
        let observed = run.observed();
        (0..3).for_each(|index| assert_null(&observed, index));
        let librarys = the_librarys(&run.initial(), &observed);
        // The pid file, and the channel to the launcher.
        assert_eq!(librarys.len(), 2, "{librarys:?}");
        assert!(librarys.iter().all(|one| one.close_on_exec), "{librarys:?}");
        let left = the_librarys(&run.initial(), &run.report());
        assert_eq!(left.len(), 1, "{left:?}");
        let path = run.launcher().pid_file.unwrap().place;
        assert_eq!((left[0].device, left[0].inode), (path.device, path.inode));
        assert!(left[0].close_on_exec);
    }
}

fn nothing_stays_in_the_place_of_a_stream_meanwhile() {
    let scenario = scenario!().pid_file("daemon.pid");
    let run = scenario
        .from_state(|state| state.closed = [true; 3])
        .privileged_action([Step::Hold])
        .launch();
    let intermediate = run.held().ppid;
    for pid in [run.launcher_pid(), intermediate] {
        // What the kernel hands out there is moved away at once, of which no
        // event tells.
        let deadline = Instant::now() + DEADLINE;
        let is_open = |view: &Report| (0..3).any(|number| view.descriptor(number).is_some());
        let mut view = run.outside(pid);
        while is_open(&view) {
            assert!(Instant::now() < deadline, "{pid}: {view:?}");
            view = run.outside(pid);
        }
        let librarys = the_librarys(&run.initial(), &view);
        assert!(!librarys.is_empty());
        assert!(librarys.iter().all(|one| one.close_on_exec), "{librarys:?}");
    }
    run.proceed();
    run.report();
}

fn descriptors_of_the_caller_stay_as_they_were() {
    let open = |number, close_on_exec| OpenDescriptor {
        number,
        path: "/".into(),
        close_on_exec,
    };
    let scenario = scenario!().from_state(|state: &mut InitialState| {
        state.descriptors = vec![open(60, true), open(61, false), open(199, false)];
    });
    let run = scenario.start();
    let (initial, daemon) = (run.initial(), run.report());
    for number in [60, 61, 199] {
        assert_eq!(daemon.descriptor(number), initial.descriptor(number));
    }
    assert_nothing_stray(&run, &daemon, None);
}

// --- What was written before ---

/// Text in the buffers of both languages, and an exit that flushes them.
fn with_unflushed(entry: Entry) -> Scenario {
    let scenario = scenario!().entry(entry).piped().stdout(Stream::Keep);
    scenario.from_state(|state| {
        state.unflushed_rust = Some("std's\n".to_owned());
        state.unflushed_c = Some("C's\n".to_owned());
    })
}

fn unflushed_output_is_written_once() {
    for entry in [
        Entry::Start,
        Entry::StartChecked,
        Entry::Execute,
        Entry::ExecuteChecked,
    ] {
        let run = with_unflushed(entry).launch();
        run.report();
        // The pipe is at its end when both have exited.
        run.tell(&Command::Exit(0));
        run.launcher().assert().success().stdout("std's\nC's\n");
    }
}

fn unflushed_output_is_written_once_by_a_failed_start() {
    for entry in [Entry::Start, Entry::Execute] {
        for scenario in [
            with_unflushed(entry).user("no-such-user"),
            with_unflushed(entry).working_directory("missing"),
            with_unflushed(entry).privileged_action([Step::Exit(0)]),
        ] {
            let run = scenario.launch();
            run.launcher_error();
            run.wait_until_all_ended();
            let output = String::from_utf8(run.launcher().output.stdout).unwrap();
            let mut lines: Vec<_> = output.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines, ["C's", "std's"], "{}", run.account());
        }
    }
}

fn at_exit(run: &Run) -> Vec<u32> {
    let frames = run.messages();
    let such = frames
        .iter()
        .filter(|frame| frame.message == Message::AtExit);
    such.map(|frame| frame.sender).collect()
}

fn exit_handlers_run_once_in_the_daemon() {
    for entry in [Entry::Start, Entry::StartChecked] {
        let scenario = scenario!().entry(entry);
        let run = scenario
            .from_state(|state| state.at_exit_handler = true)
            .start();
        assert!(at_exit(&run).is_empty());
        run.exit(0);
        assert_eq!(at_exit(&run), [run.report().pid]);
    }
}

/// The launcher's caller exits there by itself.
fn exit_handlers_run_in_both_after_execute() {
    let run = scenario!()
        .entry(Entry::Execute)
        .from_state(|state| state.at_exit_handler = true)
        .start();
    run.exit(0);
    let mut both = [run.launcher_pid(), run.report().pid];
    let mut found = at_exit(&run);
    both.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, both);
}

fn the_launchers_output_is_not_held_open() {
    for entry in [Entry::Start, Entry::Execute] {
        // Counts as ended when nobody holds the pipes.
        let run = scenario!().entry(entry).piped().start();
        assert_eq!(run.observe().pid, run.report().pid);
    }
}

/// Else the case before would prove nothing.
fn a_kept_output_is_held_open() {
    let run = scenario!().piped().stdout(Stream::Keep).launch();
    run.report();
    run.wait_until_ended(run.launcher_pid());
    run.observe();
    assert!(run.account().contains("has not ended"));
    run.tell(&Command::Exit(0));
    run.launcher().assert().success();
}
