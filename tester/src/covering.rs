//! Covering arrays: a small number of rows that contain all pairs, or all triples, of values.
//!
//! The algorithm is greedy: each row starts from a tuple that no row covers yet. On every other
//! axis it takes the value that covers the most tuples. The same seed makes the same rows.

use std::iter;
use std::ops::Range;

/// Random numbers from a seed: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("no axis is that long");
        usize::try_from(self.next_number() % limit).expect("below a usize")
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// The size of the tuples that rows cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    Pairs,
    Triples,
}

/// A set of values. It has no loops, which are slow in a debug build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits([u128; 3]);

impl Bits {
    const NONE: Self = Self([0; 3]);
    const ALL: Self = Self([u128::MAX; 3]);

    fn of(values: impl IntoIterator<Item = usize>) -> Self {
        let mut bits = Self::NONE;
        for value in values {
            bits.insert(value);
        }
        bits
    }

    fn insert(&mut self, value: usize) {
        self.0[value >> 7] |= 1 << (value & 127);
    }

    fn remove(&mut self, value: usize) {
        self.0[value >> 7] &= !(1 << (value & 127));
    }

    fn contains(&self, value: usize) -> bool {
        self.0[value >> 7] >> (value & 127) & 1 != 0
    }

    fn and(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([d, e, f])) = (self, other);
        Self([a & d, b & e, c & f])
    }

    fn without(self, other: Self) -> Self {
        let (Self([a, b, c]), Self([d, e, f])) = (self, other);
        Self([a & !d, b & !e, c & !f])
    }

    fn count(self) -> u32 {
        let Self([a, b, c]) = self;
        a.count_ones() + b.count_ones() + c.count_ones()
    }

    /// The values, the smallest first.
    fn values(self) -> impl Iterator<Item = usize> {
        let words = self.0.into_iter().enumerate();
        words.flat_map(|(index, word)| {
            let mut left = word;
            iter::from_fn(move || {
                let lowest = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (lowest < 128).then_some(index << 7 | lowest as usize)
            })
        })
    }
}

/// Axes, and the compatibility of their values.
///
/// A value is a number. The count runs from the first value of the first axis to the last value of
/// the last axis.
#[derive(Debug, Clone)]
pub struct Space {
    /// The number of the first value of each axis, and the number of all values.
    begins: Vec<usize>,
    /// The values that a value is compatible with. A valid value is compatible with itself.
    goes_with: Vec<Bits>,
}

impl Space {
    /// Makes axes of these sizes. `is_valid` is asked about single values and about pairs, as axis
    /// and value.
    pub fn new(sizes: &[usize], is_valid: impl Fn(&[(usize, usize)]) -> bool) -> Self {
        let mut begins = vec![0];
        for size in sizes {
            begins.push(begins[begins.len() - 1] + size);
        }
        let values: Vec<(usize, usize)> = (0..sizes.len())
            .flat_map(|axis| (0..sizes[axis]).map(move |value| (axis, value)))
            .collect();
        let alone: Vec<bool> = values.iter().map(|&value| is_valid(&[value])).collect();
        let goes_with = (0..values.len())
            .map(|one| {
                let goes = |other: usize| match values[one].0 == values[other].0 {
                    true => one == other,
                    false => is_valid(&[values[one], values[other]]),
                };
                let others = 0..values.len();
                Bits::of(others.filter(|&other| alone[one] && alone[other] && goes(other)))
            })
            .collect();
        let mut space = Self { begins, goes_with };
        while space.part_what_nothing_joins() {}
        space
    }

    /// If two values leave no value on a third axis, makes the two incompatible. Returns true if
    /// there were such values.
    fn part_what_nothing_joins(&mut self) -> bool {
        let axes: Vec<Bits> = (0..self.axes())
            .map(|axis| Bits::of(self.axis(axis)))
            .collect();
        let mut has_parted = false;
        for one in 0..self.count() {
            let others: Vec<usize> = self.goes_with[one].values().collect();
            for other in others.into_iter().filter(|&other| other >= one) {
                let both = self.goes_with[one].and(self.goes_with[other]);
                if axes.iter().any(|&axis| both.and(axis) == Bits::NONE) {
                    self.goes_with[one].remove(other);
                    self.goes_with[other].remove(one);
                    has_parted = true;
                }
            }
        }
        has_parted
    }

    fn axis(&self, axis: usize) -> Range<usize> {
        self.begins[axis]..self.begins[axis + 1]
    }

    fn axes(&self) -> usize {
        self.begins.len() - 1
    }

    fn count(&self) -> usize {
        self.begins[self.axes()]
    }

    /// The values that are compatible with all of these.
    fn allowed(&self, fixed: &[usize]) -> Bits {
        let goes_with = fixed.iter().map(|&value| self.goes_with[value]);
        goes_with.fold(Bits::ALL, Bits::and)
    }

    /// The valid values of an axis.
    pub fn values(&self, axis: usize) -> impl Iterator<Item = usize> {
        let begin = self.begins[axis];
        let values = begin..self.begins[axis + 1];
        let valid = values.filter(|&value| self.goes_with[value].contains(value));
        valid.map(move |value| value - begin)
    }

    /// Whether all values of a row are compatible.
    pub fn allows(&self, row: &[usize]) -> bool {
        let row = self.counted(row);
        let allowed = self.allowed(&row);
        row.iter().all(|&value| allowed.contains(value))
    }

    fn counted(&self, row: &[usize]) -> Vec<usize> {
        let begins = row.iter().zip(&self.begins);
        begins.map(|(value, begin)| value + begin).collect()
    }

    /// A random row of compatible values.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn random_row(&self, random: &mut Random) -> Vec<usize> {
        let row = self.complete(&[], random, |_, _, _| 0);
        row.or_else(|| self.search(Vec::new()))
            .expect("some values go together")
    }

    /// A row that differs from this one only where values are incompatible; an earlier value takes
    /// precedence over a later one.
    ///
    /// # Panics
    ///
    /// When no values are compatible.
    pub fn nearest(&self, row: &[usize]) -> Vec<usize> {
        let keep = |is_possible: &dyn Fn(&[usize]) -> bool| {
            let mut kept = Vec::new();
            for value in self.counted(row) {
                kept.push(value);
                let allowed = self.allowed(&kept);
                if !kept.iter().all(|&value| allowed.contains(value)) || !is_possible(&kept) {
                    kept.pop();
                }
            }
            kept
        };
        // If all values are compatible in pairs, some row contains all of them in most cases, but
        // not always.
        self.search(keep(&|_| true))
            .or_else(|| self.search(keep(&|kept| self.search(kept.to_vec()).is_some())))
            .expect("some values go together")
    }

    /// Rows that contain all valid tuples. A tuple is valid if it is part of any row.
    pub fn cover(&self, strength: Strength, seed: u64) -> Vec<Vec<usize>> {
        let mut random = Random::new(seed);
        let mut left = Uncovered::new(self, strength);
        let mut tuples = left.tuples();
        random.shuffle(&mut tuples);
        let mut rows = Vec::new();
        for tuple in tuples {
            if !left.contains(tuple) {
                continue;
            }
            let tuple = left.values(tuple);
            let row = self.complete(&tuple, &mut random, |value, fixed, all| {
                left.gain(value, fixed, all)
            });
            if let Some(row) = row.or_else(|| self.search(tuple)) {
                left.remove(&row);
                rows.push(row);
            }
        }
        rows
    }

    /// The number of valid tuples that no row contains.
    pub fn uncovered(&self, strength: Strength, rows: &[Vec<usize>]) -> usize {
        let mut left = Uncovered::new(self, strength);
        for row in rows {
            left.remove(row);
        }
        let tuples = left.tuples().into_iter();
        let possible = tuples.filter_map(|tuple| self.search(left.values(tuple)));
        possible.count()
    }

    /// A row with these values, if there is one. Tries one value after the other, first on the axis
    /// with the fewest values.
    fn search(&self, fixed: Vec<usize>) -> Option<Vec<usize>> {
        let allowed = self.allowed(&fixed);
        let choices = |axis: usize| -> Vec<usize> {
            let values = self.axis(axis);
            values.filter(|&value| allowed.contains(value)).collect()
        };
        let is_open = |&axis: &usize| {
            let values = self.axis(axis);
            !fixed.iter().any(|value| values.contains(value))
        };
        let least = (0..self.axes())
            .filter(is_open)
            .map(choices)
            .min_by_key(Vec::len);
        match least {
            None => Some(self.row(fixed)),
            Some(values) => values
                .into_iter()
                .find_map(|value| self.search([fixed.as_slice(), &[value]].concat())),
        }
    }

    fn row(&self, mut values: Vec<usize>) -> Vec<usize> {
        values.sort_unstable();
        let begins = values.iter().zip(&self.begins);
        begins.map(|(value, begin)| value - begin).collect()
    }

    /// Adds a value on each other axis: the value of the largest gain, or a random one of several.
    /// `gain` gets the value, and the fixed values as a list and as a set.
    fn complete(
        &self,
        fixed: &[usize],
        random: &mut Random,
        gain: impl Fn(usize, &[usize], Bits) -> u32,
    ) -> Option<Vec<usize>> {
        let mut fixed = fixed.to_vec();
        let mut all = Bits::of(fixed.iter().copied());
        let mut allowed = self.allowed(&fixed);
        let mut axes: Vec<usize> = (0..self.axes())
            .filter(|&axis| {
                let values = self.axis(axis);
                !fixed.iter().any(|value| values.contains(value))
            })
            .collect();
        random.shuffle(&mut axes);
        for axis in axes {
            let values = self.axis(axis);
            let best = values
                .filter(|&value| allowed.contains(value))
                .max_by_key(|&value| (gain(value, &fixed, all), random.next_number()))?;
            fixed.push(best);
            all.insert(best);
            allowed = allowed.and(self.goes_with[best]);
        }
        Some(self.row(fixed))
    }
}

/// Three values; a pair has the first value twice.
type Tuple = [u16; 3];

/// The tuples that no row has covered yet.
struct Uncovered<'a> {
    space: &'a Space,
    strength: Strength,
    /// For each value, or each two values for triples: the values that make an uncovered tuple with
    /// them.
    left: Vec<Bits>,
}

impl<'a> Uncovered<'a> {
    fn new(space: &'a Space, strength: Strength) -> Self {
        let count = space.count();
        let with = |one: usize| {
            let mut with = space.goes_with[one];
            with.remove(one);
            with
        };
        let left = match strength {
            Strength::Pairs => (0..count).map(with).collect(),
            Strength::Triples => (0..count * count)
                .map(|both| {
                    let (one, other) = (both / count, both % count);
                    match with(one).contains(other) {
                        true => with(one).and(with(other)),
                        false => Bits::NONE,
                    }
                })
                .collect(),
        };
        Self {
            space,
            strength,
            left,
        }
    }

    /// The index of the values that make a tuple with these two, which are one value for pairs.
    fn index(&self, one: usize, other: usize) -> usize {
        match self.strength {
            Strength::Pairs => one,
            Strength::Triples => one * self.space.count() + other,
        }
    }

    fn contains(&self, tuple: Tuple) -> bool {
        let [one, other, last] = tuple.map(usize::from);
        self.left[self.index(one, other)].contains(last)
    }

    /// The values of a tuple, each once.
    fn values(&self, tuple: Tuple) -> Vec<usize> {
        let [one, other, last] = tuple.map(usize::from);
        match self.strength {
            Strength::Pairs => vec![one, last],
            Strength::Triples => vec![one, other, last],
        }
    }

    fn tuples(&self) -> Vec<Tuple> {
        let count = self.space.count();
        let number = |value: usize| u16::try_from(value).expect("there are not so many values");
        let mut tuples = Vec::new();
        for one in 0..count {
            let others = match self.strength {
                Strength::Pairs => one..one + 1,
                Strength::Triples => one + 1..count,
            };
            for other in others {
                let last = self.left[self.index(one, other)].values();
                let later = last.skip_while(|&last| last < other);
                tuples.extend(later.map(|last| [one, other, last].map(number)));
            }
        }
        tuples
    }

    fn remove(&mut self, row: &[usize]) {
        let row = self.space.counted(row);
        let all = Bits::of(row.iter().copied());
        for &one in &row {
            for &other in &row {
                let index = self.index(one, other);
                self.left[index] = self.left[index].without(all);
            }
        }
    }

    /// The number of tuples that this value covers together with the fixed ones. A triple counts
    /// twice.
    fn gain(&self, value: usize, fixed: &[usize], all: Bits) -> u32 {
        match self.strength {
            Strength::Pairs => self.left[value].and(all).count(),
            Strength::Triples => (fixed.iter())
                .map(|&other| self.left[self.index(value, other)].and(all).count())
                .sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 6] = [4, 3, 5, 2, 3, 6];

    /// The first value of the first axis is compatible with the first value of the second axis
    /// alone. The last axis has no second value.
    fn space() -> Space {
        Space::new(&SIZES, |values| match values {
            [(5, value)] => *value != 1,
            [(0, 0), (1, value)] => *value == 0,
            [(1, value), (0, 0)] => *value == 0,
            _ => true,
        })
    }

    #[test]
    fn rows_cover_what_they_promise() {
        for strength in [Strength::Pairs, Strength::Triples] {
            let space = space();
            let rows = space.cover(strength, 1);
            assert!(rows.iter().all(|row| space.allows(row)));
            assert_eq!(space.uncovered(strength, &rows), 0);
            let without_last = &rows[..rows.len() - 1];
            assert_ne!(space.uncovered(strength, without_last), 0);
        }
    }

    #[test]
    fn rows_are_few() {
        // 6 * 5 pairs of the two largest axes; 6 * 5 * 4 triples.
        assert!(space().cover(Strength::Pairs, 1).len() < 45);
        assert!(space().cover(Strength::Triples, 1).len() < 200);
    }

    #[test]
    fn the_nearest_row_keeps_what_it_can() {
        let space = space();
        assert_eq!(space.nearest(&[1, 1, 2, 1, 2, 3]), [1, 1, 2, 1, 2, 3]);
        assert_eq!(space.nearest(&[0, 1, 2, 1, 2, 1]), [0, 0, 2, 1, 2, 0]);
    }

    #[test]
    fn a_seed_determines_the_rows() {
        let rows = |seed| space().cover(Strength::Pairs, seed);
        assert_eq!(rows(1), rows(1));
        assert_ne!(rows(1), rows(2));
    }
}
