use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(kept_descriptors_are_unchanged),
    case!(the_list_may_have_duplicates_and_invalid_numbers),
    case!(the_list_may_have_the_highest_number),
    case!(consecutive_kept_descriptors_are_unchanged),
    case!(a_descriptor_above_a_lowered_limit_can_be_kept),
];

fn kept_descriptors_are_unchanged() {
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

fn the_list_may_have_duplicates_and_invalid_numbers() {
    let unsorted_doubled_closed = [900, 110, 112, 900, 899, 1, -1, i32::MIN, 110, 2, 901, 0];
    let scenario = with_open(NUMBERS).close_inherited_fds(unsorted_doubled_closed);
    assert_left(&scenario, &[110, 900]);
}

fn the_list_may_have_the_highest_number() {
    let keep = [i32::MAX, 163, i32::MAX - 1];
    assert_left(&with_open(NUMBERS).close_inherited_fds(keep), &[163]);
}

fn consecutive_kept_descriptors_are_unchanged() {
    let scenario = with_open(320..360).close_inherited_fds((330..350).collect::<Vec<_>>());
    assert_left(&scenario, &(330..350).collect::<Vec<_>>());
}

fn a_descriptor_above_a_lowered_limit_can_be_kept() {
    let scenario = below_a_lowered_limit().close_inherited_fds([900, 111]);
    assert_left(&scenario, &[111, 900]);
}
