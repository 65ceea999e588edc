//! No descriptor of the launcher's is inherited by accident, whatever is open
//! and whatever the limits say.

use std::process::ExitCode;

use tester::config::{Access, Deferral, Foreground, InitialState, OpenDescriptor, ReadinessUse};
use tester::config::{Entry, Step, Stream};
use tester::report::Report;
use tester::{Scenario, case, scenario, suite};

fn main() -> ExitCode {
    suite(&[
        case!(without_the_option_all_are_inherited),
        case!(none_is_inherited),
        case!(those_to_be_kept_stay_as_they_are),
        case!(those_to_be_kept_may_be_named_in_any_way),
        case!(the_highest_there_is_may_be_named),
        case!(a_run_of_kept_ones_is_left_whole),
        case!(one_above_a_lowered_limit_is_closed),
        case!(one_above_a_lowered_limit_can_be_kept),
        case!(thousands_are_closed),
        case!(sources_of_streams_are_used_before_they_go),
        case!(streams_are_what_they_are_without_it),
        case!(the_pid_file_stays_locked),
        case!(the_start_is_supervised_all_the_same),
        case!(readiness_can_be_deferred_all_the_same),
        case!(a_failure_is_told_all_the_same),
        case!(what_the_privileged_action_opens_stays),
        case!(the_launchers_own_stay_open, needs Linux),
        case!(the_intermediate_holds_none_either, needs Linux),
        case!(it_works_with_every_entry_point),
        case!(in_the_foreground_the_process_closes_its_own),
        case!(in_the_foreground_all_numbers_may_be_taken),
        case!(a_jail_without_proc_is_no_hindrance, needs Root),
    ])
}

/// As many as the tests of other things leave alone.
const NUMBERS: [i32; 5] = [110, 111, 157, 163, 900];

fn open(number: i32) -> OpenDescriptor {
    OpenDescriptor {
        number,
        path: "/".into(),
        close_on_exec: false,
    }
}

fn with_open(numbers: impl IntoIterator<Item = i32>) -> Scenario {
    let descriptors: Vec<_> = numbers.into_iter().map(open).collect();
    scenario!().from_state(|state| state.descriptors = descriptors)
}

/// The numbers above the standard streams.
fn beside_streams(report: &Report) -> Vec<i32> {
    let numbers = report.descriptor_numbers();
    assert_eq!(numbers[..3], [0, 1, 2]);
    numbers[3..].to_vec()
}

#[track_caller]
fn assert_left(scenario: &Scenario, left: &[i32]) {
    let run = scenario.start();
    let initial = run.initial();
    let report = run.report();
    assert_eq!(beside_streams(&report), left, "{}", run.account());
    for &number in left {
        assert_eq!(report.descriptor(number), initial.descriptor(number));
    }
}

fn without_the_option_all_are_inherited() {
    let run = with_open(NUMBERS).start();
    let inherited = beside_streams(&run.report());
    assert_eq!(inherited, beside_streams(&run.initial()));
    assert!(NUMBERS.iter().all(|number| inherited.contains(number)));
}

fn none_is_inherited() {
    assert_left(&with_open(NUMBERS).close_inherited_fds([]), &[]);
    assert_left(&scenario!().close_inherited_fds([]), &[]);
}

fn those_to_be_kept_stay_as_they_are() {
    let scenario = with_open(NUMBERS).from_state(|state| {
        state.descriptors[2].close_on_exec = true;
    });
    assert_left(
        &scenario.clone().close_inherited_fds([111, 157]),
        &[111, 157],
    );
    assert_left(&scenario.clone().close_inherited_fds([900]), &[900]);
    assert_left(&scenario.close_inherited_fds(NUMBERS), &NUMBERS);
}

fn those_to_be_kept_may_be_named_in_any_way() {
    let unsorted_doubled_closed = [900, 110, 112, 900, 899, 1, -1, i32::MIN, 110, 2, 901, 0];
    let scenario = with_open(NUMBERS).close_inherited_fds(unsorted_doubled_closed);
    assert_left(&scenario, &[110, 900]);
}

fn the_highest_there_is_may_be_named() {
    let keep = [i32::MAX, 163, i32::MAX - 1];
    assert_left(&with_open(NUMBERS).close_inherited_fds(keep), &[163]);
}

fn a_run_of_kept_ones_is_left_whole() {
    let scenario = with_open(320..360).close_inherited_fds((330..350).collect::<Vec<_>>());
    assert_left(&scenario, &(330..350).collect::<Vec<_>>());
}

fn below_a_lowered_limit() -> Scenario {
    with_open(NUMBERS).from_state(|state| state.limit_descriptors = Some(128))
}

fn one_above_a_lowered_limit_is_closed() {
    assert_left(&below_a_lowered_limit().close_inherited_fds([]), &[]);
}

fn one_above_a_lowered_limit_can_be_kept() {
    let scenario = below_a_lowered_limit().close_inherited_fds([900, 111]);
    assert_left(&scenario, &[111, 900]);
}

/// More than any list fits into at once.
fn thousands_are_closed() {
    let scenario = with_open((300..900).chain(910..1000)).close_inherited_fds([905, 950, 300]);
    assert_left(&scenario, &[300, 950]);
}

fn sources_of_streams_are_used_before_they_go() {
    let scenario = with_open(NUMBERS);
    let [input, output] = ["input", "output"].map(|name| scenario.path(name));
    std::fs::write(&input, "").unwrap();
    let run = scenario
        .stdin(Stream::read(&input).at(99))
        .stdout(Stream::append(&output).at(800))
        .stderr(Stream::file(&output, Access::ReadWrite))
        .close_inherited_fds([])
        .start();
    let report = run.report();
    assert_eq!(report.descriptor_numbers(), [0, 1, 2]);
    let is = |number, path| report.descriptor(number).unwrap().is_file(path);
    assert!(is(0, &input) && is(1, &output) && is(2, &output));
}

fn streams_are_what_they_are_without_it() {
    for closed in [[false; 3], [true, false, true], [true; 3]] {
        let reports = [false, true].map(|closes| {
            let mut scenario = with_open(NUMBERS)
                .from_state(|state| state.closed = closed)
                .stdout(Stream::Keep);
            if closes {
                scenario = scenario.close_inherited_fds([]);
            }
            scenario.start().report()
        });
        for stream in 0..3 {
            let [without, with] = reports.each_ref().map(|report| report.descriptor(stream));
            let [without, with] = [without.unwrap(), with.unwrap()];
            // Each has an output file of its own.
            assert_eq!(without.is_null_device(), with.is_null_device());
            assert_eq!(
                (without.file_type, without.access),
                (with.file_type, with.access)
            );
        }
    }
}

fn the_pid_file_stays_locked() {
    let scenario = with_open(NUMBERS).pid_file("daemon.pid");
    let run = scenario.clone().close_inherited_fds([]).start();
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.locked);
    assert_eq!(
        pid_file.bytes,
        format!("{}\n", run.report().pid).into_bytes()
    );
    // The lock's descriptor, and nothing else.
    let left = beside_streams(&run.report());
    assert_eq!(left.len(), 1, "{left:?}");
    let error = scenario.launch().launcher_error();
    assert_eq!(error.running_pid, Some(run.report().pid));
}

/// The intermediate's own descriptors survive: it sees how the daemon dies.
fn the_start_is_supervised_all_the_same() {
    let scenario = with_open(NUMBERS)
        .pid_file("daemon.pid")
        .close_inherited_fds([]);
    let steps = [Step::KillItself(libc::SIGKILL)];
    let error = scenario.clone().privileged_action(steps).fail();
    assert_eq!(error.kind, "DaemonExited");
    assert_eq!(error.daemon_exit_status, Some(libc::SIGKILL));

    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    run.kill_launcher();
    run.wait_until_all_ended();
    assert!(
        run.pid_file()
            .is_some_and(|file| file.bytes.is_empty() && !file.locked)
    );
}

fn readiness_can_be_deferred_all_the_same() {
    let scenario = with_open(NUMBERS).close_inherited_fds([]);
    let deferral = Deferral::new([Step::Hold], ReadinessUse::Ready);
    let run = scenario.deferred_readiness(deferral).launch();
    run.held();
    run.assert_launcher_waits();
    run.proceed();
    run.launcher().assert().success();
    assert_eq!(beside_streams(&run.observe()), [0; 0]);
}

fn a_failure_is_told_all_the_same() {
    for (scenario, kind) in [
        (scenario!().working_directory("missing"), "ChangeDirectory"),
        (scenario!().pid_file("missing/daemon.pid"), "OpenPidfile"),
        (scenario!().chroot("missing"), "Chroot"),
    ] {
        let error = scenario.close_inherited_fds([]).fail();
        assert_eq!(error.kind, format!("{kind}({})", libc::ENOENT));
    }
}

fn what_the_privileged_action_opens_stays() {
    let scenario = with_open(NUMBERS).close_inherited_fds([]);
    let run = scenario.privileged_action([Step::Listen]).start();
    assert_eq!(beside_streams(&run.report()).len(), 1);
    std::net::TcpStream::connect(("127.0.0.1", run.port())).unwrap();
}

fn held() -> tester::Run {
    let scenario = with_open(NUMBERS).close_inherited_fds([157]);
    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    run
}

fn the_launchers_own_stay_open() {
    let run = held();
    let launcher = run.outside(run.launcher_pid());
    for number in NUMBERS {
        assert_eq!(
            launcher
                .descriptor(number)
                .map(|one| (one.device, one.inode)),
            run.initial()
                .descriptor(number)
                .map(|one| (one.device, one.inode)),
        );
    }
    run.proceed();
    run.report();
}

fn the_intermediate_holds_none_either() {
    let run = held();
    let intermediate = run.outside(run.held().ppid).descriptor_numbers();
    let left: Vec<_> = NUMBERS
        .into_iter()
        .filter(|number| intermediate.contains(number))
        .collect();
    assert_eq!(left, [157]);
    run.proceed();
    run.report();
}

fn it_works_with_every_entry_point() {
    for entry in [
        Entry::Start,
        Entry::StartChecked,
        Entry::Execute,
        Entry::ExecuteChecked,
    ] {
        assert_left(
            &with_open(NUMBERS).entry(entry).close_inherited_fds([163]),
            &[163],
        );
    }
}

fn in_the_foreground_the_process_closes_its_own() {
    let scenario = with_open(NUMBERS).foreground(Foreground::Yes);
    let run = scenario
        .pid_file("daemon.pid")
        .close_inherited_fds([111])
        .launch();
    let report = run.report();
    let left = beside_streams(&report);
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.locked);
    assert!(left.contains(&111) && left.len() == 2, "{left:?}");
}

/// A list has to be opened somewhere.
fn in_the_foreground_all_numbers_may_be_taken() {
    for free in 0..3 {
        let change = |state: &mut InitialState| {
            state.limit_descriptors = Some(64);
            state.free_descriptors = Some(free);
        };
        let run = scenario!()
            .from_state(change)
            .foreground(Foreground::Yes)
            .close_inherited_fds([])
            .launch();
        assert_eq!(run.report().descriptor_numbers(), [0, 1, 2]);
    }
}

/// Descriptors go before the root directory.
fn a_jail_without_proc_is_no_hindrance() {
    let scenario = with_open(NUMBERS).close_inherited_fds([]);
    let jail = scenario.create_folder("jail");
    assert_left(&scenario.chroot(&jail), &[]);
}
