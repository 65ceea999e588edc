//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;

/// Numbers that the suites of other topics do not use.
pub(crate) const NUMBERS: [i32; 5] = [110, 111, 157, 163, 900];

pub(crate) fn open(number: i32) -> OpenDescriptor {
    OpenDescriptor::of_root(number, false)
}

pub(crate) fn with_open(numbers: impl IntoIterator<Item = i32>) -> Scenario {
    let descriptors: Vec<_> = numbers.into_iter().map(open).collect();
    scenario!().from_state(|state| state.descriptors = descriptors)
}

/// The numbers above those of the standard streams.
pub(crate) fn numbers_above_streams(report: &Report) -> Vec<i32> {
    let numbers = report.descriptor_numbers();
    assert_eq!(numbers[..3], [0, 1, 2]);
    numbers[3..].to_vec()
}

#[track_caller]
pub(crate) fn assert_left(scenario: &Scenario, left: &[i32]) {
    let run = scenario.start();
    let initial = run.initial();
    let report = run.report();
    assert_eq!(
        numbers_above_streams(&report),
        left,
        "{}",
        run.diagnostics()
    );
    for &number in left {
        assert_eq!(report.descriptor(number), initial.descriptor(number));
    }
}

pub(crate) fn below_a_lowered_limit() -> Scenario {
    with_open(NUMBERS).from_state(|state| state.limit_descriptors = Some(128))
}
