use tester::prelude::*;
use tester::report::Descriptor;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_librarys_descriptors_are_close_on_exec_and_no_streams),
    case!(no_descriptor_stays_in_the_place_of_a_stream_during_the_start, needs VisibleFiles),
    case!(the_callers_descriptors_are_unchanged),
];

/// The descriptors beyond the initial state and the streams.
fn library_descriptors(initial: &Report, report: &Report) -> Vec<Descriptor> {
    let before = initial.descriptor_numbers();
    let descriptors = report.descriptors.clone().unwrap().into_iter();
    descriptors
        .filter(|one| !before.contains(&one.number))
        .filter(|one| one.number > 2)
        .collect()
}

fn the_librarys_descriptors_are_close_on_exec_and_no_streams() {
    for closed in every_closing() {
        let scenario = daemon!();
        let run = scenario
            .from_state(|state| state.closed = closed)
            .privileged_action([Step::Observe])
            .start();
        let observed = run.observed();
        (0..3).for_each(|index| assert_null(&observed, index));
        let descriptors = library_descriptors(&run.initial(), &observed);
        // The pid file and the channel to the launcher.
        assert_eq!(descriptors.len(), 2, "{descriptors:?}");
        assert!(
            descriptors
                .iter()
                .all(|one| one.close_on_exec == Some(true)),
            "{descriptors:?}"
        );
        let left = library_descriptors(&run.initial(), &run.report());
        assert_eq!(left.len(), 1, "{left:?}");
        let path = run.launcher().pid_file.unwrap().place;
        assert!(left[0].is_at(&path), "{left:?}");
        assert_eq!(left[0].close_on_exec, Some(true));
    }
}

fn no_descriptor_stays_in_the_place_of_a_stream_during_the_start() {
    let scenario = daemon!();
    let run = scenario
        .from_state(|state| state.closed = [true; 3])
        .privileged_action([Step::Hold])
        .launch();
    let intermediate = run.held().ppid;
    for pid in [run.launcher_pid(), intermediate] {
        // The library moves such a descriptor at once, and no event announces the move.
        let deadline = Instant::now() + time_limit();
        let is_open = |view: &Report| (0..3).any(|number| view.descriptor(number).is_some());
        let mut view = run.outside(pid);
        while is_open(&view) {
            assert!(Instant::now() < deadline, "{pid}: {view:?}");
            view = run.outside(pid);
        }
        let descriptors = library_descriptors(&run.initial(), &view);
        assert!(!descriptors.is_empty());
        // FreeBSD shows others no such flag.
        let mut flags = descriptors.iter().filter_map(|one| one.close_on_exec);
        assert!(flags.all(|is_set| is_set), "{descriptors:?}");
    }
    run.proceed();
    run.report();
}

fn the_callers_descriptors_are_unchanged() {
    let open = |number, close_on_exec| OpenDescriptor::of_root(number, close_on_exec);
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
