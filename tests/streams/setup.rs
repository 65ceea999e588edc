//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;
use tester::report::{AccessMode, Descriptor};

/// Every choice of closed streams.
pub(crate) fn every_closing() -> impl Iterator<Item = [bool; 3]> {
    (0..8).map(|bits| [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0])
}

pub(crate) fn all_kept() -> Scenario {
    set_all(scenario!(), [Stream::Keep, Stream::Keep, Stream::Keep])
}

/// These streams are the null device, and the others are kept.
#[track_caller]
pub(crate) fn assert_null_or_kept(run: &Run, is_null: [bool; 3]) {
    let (initial, daemon) = (run.initial(), run.report());
    for (index, is_null) in is_null.into_iter().enumerate() {
        match is_null {
            true => assert_null(&daemon, index),
            false => assert_eq!(stream(&daemon, index), stream(&initial, index)),
        }
    }
    assert_nothing_stray(run, &daemon, None);
}

/// Sets all three streams.
pub(crate) fn set_all(scenario: Scenario, streams: [Stream; 3]) -> Scenario {
    let [stdin, stdout, stderr] = streams;
    scenario.stdin(stdin).stdout(stdout).stderr(stderr)
}

pub(crate) fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap()
}

#[track_caller]
pub(crate) fn stream(report: &Report, index: usize) -> &Descriptor {
    let found = report.descriptor(number(index));
    found.unwrap_or_else(|| panic!("stream {index} is closed"))
}

#[track_caller]
pub(crate) fn assert_null(report: &Report, index: usize) {
    let stream = stream(report, index);
    assert!(stream.is_null_device(), "{index}: {stream:?}");
    assert_eq!(stream.access, AccessMode::ReadWrite);
}

/// The daemon has the descriptors of the initial state and the three streams, and no
/// others. The library closes the sources, which are files in the directory `gone`.
#[track_caller]
pub(crate) fn assert_nothing_stray(run: &Run, report: &Report, gone: Option<&Path>) {
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
        assert_eq!(
            stream(report, index).close_on_exec,
            Some(false),
            "stream {index}"
        );
    }
}

/// Whether the descriptor is one of the sources, which are files in that directory.
pub(crate) fn is_below(descriptor: &Descriptor, directory: &Path) -> bool {
    ["0", "1", "2"]
        .iter()
        .any(|name| descriptor.is_file(&directory.join(name)))
}

/// A file with the number of the stream as its name.
pub(crate) fn file(scenario: &Scenario, index: usize) -> Stream {
    Stream::file(scenario.path(index.to_string()), Access::ReadWrite)
}
