use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_sources_may_be_the_standard_streams_in_any_order),
    case!(stdout_and_stderr_may_be_swapped),
    case!(a_source_that_is_a_standard_stream_stays_in_its_place),
];

fn the_sources_may_be_the_standard_streams_in_any_order() {
    for (first, second) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let order = [first, second, 3 - first - second];
        let scenario = scenario!();
        let sources = [0, 1, 2].map(|index| file(&scenario, index).at(order[index]));
        let run = set_all(scenario.clone(), sources).start();
        let daemon = run.report();
        for index in 0..3 {
            let path = scenario.path(index.to_string());
            assert!(stream(&daemon, index).is_file(&path), "{order:?} {index}");
        }
        // The numbers of the sources now belong to the streams.
        assert_nothing_stray(&run, &daemon, None);
    }
}

fn stdout_and_stderr_may_be_swapped() {
    let scenario = scenario!();
    let [stdout, stderr] = [(1, 2), (2, 1)].map(|(index, at)| file(&scenario, index).at(at));
    let run = scenario.clone().stdout(stdout).stderr(stderr).start();
    let daemon = run.report();
    assert_null(&daemon, 0);
    assert!(stream(&daemon, 1).is_file(&scenario.path("1")));
    assert!(stream(&daemon, 2).is_file(&scenario.path("2")));
    assert_nothing_stray(&run, &daemon, None);
}

/// The stream is kept, and no longer close-on-exec.
fn a_source_that_is_a_standard_stream_stays_in_its_place() {
    let scenario = scenario!();
    let stdout = file(&scenario, 1).at(0);
    let run = scenario.clone().stdin(Stream::Keep).stdout(stdout).start();
    assert_eq!(stream(&run.initial(), 0).close_on_exec, Some(true));
    let daemon = run.report();
    for index in 0..2 {
        assert!(stream(&daemon, index).is_file(&scenario.path("1")));
    }
    assert_nothing_stray(&run, &daemon, None);
}
