use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(unset_streams_are_kept),
    case!(streams_that_are_set_are_redirected),
    case!(a_kept_stream_that_is_closed_becomes_the_null_device),
    case!(the_pid_file_is_the_only_added_descriptor),
];

fn unset_streams_are_kept() {
    let (run, daemon) = in_foreground().serve();
    let initial = run.initial();
    for number in 0..=2 {
        assert_eq!(daemon.descriptor(number), initial.descriptor(number));
        assert!(!daemon.descriptor(number).unwrap().is_null_device());
    }
}

fn streams_that_are_set_are_redirected() {
    let scenario = in_foreground();
    let log = scenario.path("log");
    let (run, daemon) = scenario
        .stdin(Stream::DevNull)
        .stdout(Stream::append(&log))
        .serve();
    assert!(daemon.descriptor(0).unwrap().is_null_device());
    assert!(daemon.descriptor(1).unwrap().is_file(&log));
    assert_eq!(daemon.descriptor(2), run.initial().descriptor(2));
}

fn a_kept_stream_that_is_closed_becomes_the_null_device() {
    let scenario = in_foreground().from_state(|state| state.closed = [true, false, true]);
    let (run, daemon) = scenario.serve();
    assert!(daemon.descriptor(0).unwrap().is_null_device());
    assert_eq!(daemon.descriptor(1), run.initial().descriptor(1));
    assert!(daemon.descriptor(2).unwrap().is_null_device());
}

fn the_pid_file_is_the_only_added_descriptor() {
    let (run, daemon) = in_foreground().serve();
    assert_eq!(
        daemon.descriptor_numbers(),
        run.initial().descriptor_numbers()
    );
    let (run, daemon) = in_foreground().pid_file("daemon.pid").serve();
    let initial = run.initial().descriptor_numbers();
    let added: Vec<_> = daemon
        .descriptor_numbers()
        .into_iter()
        .filter(|number| !initial.contains(number))
        .collect();
    assert_eq!(added.len(), 1, "{added:?}");
    let pid_file = daemon.descriptor(added[0]).unwrap();
    assert!(
        pid_file.close_on_exec == Some(true) && added[0] > 2,
        "{pid_file:?}"
    );
}
