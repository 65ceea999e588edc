use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(without_the_option_all_descriptors_are_inherited),
    case!(no_descriptor_is_inherited),
    case!(a_descriptor_above_a_lowered_limit_is_closed),
    case!(hundreds_of_descriptors_are_closed),
    case!(every_entry_point_closes_descriptors),
    case!(descriptors_are_closed_in_a_jail_without_proc, needs Root),
    case!(the_launchers_descriptors_stay_open, needs VisibleFiles),
    case!(the_intermediate_keeps_no_inherited_descriptor, needs VisibleFiles),
    case!(a_foreground_process_closes_its_own_descriptors),
    case!(a_foreground_process_without_free_numbers_closes_its_descriptors),
];

fn without_the_option_all_descriptors_are_inherited() {
    let run = with_open(NUMBERS).start();
    let inherited = numbers_above_streams(&run.report());
    assert_eq!(inherited, numbers_above_streams(&run.initial()));
    assert!(NUMBERS.iter().all(|number| inherited.contains(number)));
}

fn no_descriptor_is_inherited() {
    assert_left(&with_open(NUMBERS).close_inherited_fds([]), &[]);
    assert_left(&scenario!().close_inherited_fds([]), &[]);
}

fn a_descriptor_above_a_lowered_limit_is_closed() {
    assert_left(&below_a_lowered_limit().close_inherited_fds([]), &[]);
}

/// No listing returns this many descriptors at once.
fn hundreds_of_descriptors_are_closed() {
    let scenario = with_open((300..900).chain(910..1000)).close_inherited_fds([905, 950, 300]);
    assert_left(&scenario, &[300, 950]);
}

fn every_entry_point_closes_descriptors() {
    for entry in ENTRIES {
        assert_left(
            &with_open(NUMBERS).entry(entry).close_inherited_fds([163]),
            &[163],
        );
    }
}

/// The library closes descriptors before it changes the root directory.
fn descriptors_are_closed_in_a_jail_without_proc() {
    let (scenario, jail) = with_open(NUMBERS)
        .close_inherited_fds([])
        .with_directory("jail");
    assert_left(&scenario.chroot(&jail), &[]);
}

fn launch_and_hold() -> Run {
    let scenario = with_open(NUMBERS).close_inherited_fds([157]);
    let run = scenario.privileged_action([Step::Hold]).launch();
    run.held();
    run
}

fn the_launchers_descriptors_stay_open() {
    let run = launch_and_hold();
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

fn the_intermediate_keeps_no_inherited_descriptor() {
    let run = launch_and_hold();
    let intermediate = run.outside(run.held().ppid).descriptor_numbers();
    let left: Vec<_> = NUMBERS
        .into_iter()
        .filter(|number| intermediate.contains(number))
        .collect();
    assert_eq!(left, [157]);
    run.proceed();
    run.report();
}

fn a_foreground_process_closes_its_own_descriptors() {
    let scenario = with_open(NUMBERS).foreground(Foreground::Yes);
    let run = scenario
        .pid_file("daemon.pid")
        .close_inherited_fds([111])
        .launch();
    let report = run.report();
    let left = numbers_above_streams(&report);
    let pid_file = run.pid_file().unwrap();
    assert!(pid_file.locked);
    assert!(left.contains(&111) && left.len() == 2, "{left:?}");
}

/// A listing of /dev/fd needs a descriptor itself.
fn a_foreground_process_without_free_numbers_closes_its_descriptors() {
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
