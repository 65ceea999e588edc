use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(closed_streams_become_the_null_device),
    case!(kept_streams_that_are_closed_become_the_null_device),
    case!(closed_streams_become_files),
    case!(a_failed_start_with_closed_streams_leaves_nothing),
];

fn closed_streams_become_the_null_device() {
    for closed in every_closing() {
        for entry in [Entry::Start, Entry::Execute] {
            let scenario = daemon!().entry(entry);
            let run = scenario.from_state(|state| state.closed = closed).start();
            let daemon = run.observe();
            (0..3).for_each(|index| assert_null(&daemon, index));
            let pid_file = daemon.descriptors.as_deref().unwrap().iter();
            let path = run.launcher().pid_file.unwrap().place;
            let held = pid_file.filter(|one| one.is_at(&path));
            assert!(held.map(|one| one.number).all(|number| number > 2));
        }
    }
}

fn kept_streams_that_are_closed_become_the_null_device() {
    for closed in every_closing() {
        let scenario = all_kept().from_state(|state| state.closed = closed);
        assert_null_or_kept(&scenario.start(), closed);
    }
}

/// The sources themselves get the lowest numbers.
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
        assert_nothing_stray(&run, &daemon, Some(scenario.directory()));
    }
}

fn a_failed_start_with_closed_streams_leaves_nothing() {
    for closed in every_closing() {
        let scenario = daemon!().chroot("missing");
        let run = scenario.from_state(|state| state.closed = closed).launch();
        let error = run.error_of_launcher();
        assert_eq!(error.kind_name(), "Chroot");
        run.assert_nothing_left();
    }
}
