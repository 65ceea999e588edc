//! The end of a wait, and of repeated attempts.

use std::time::{Duration, Instant};

/// An instant at which a wait ends; or none, for a wait without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Self = Self(None);

    /// A duration that the clock cannot represent is no limit.
    pub(crate) fn after(duration: Duration) -> Self {
        Self(Instant::now().checked_add(duration))
    }

    pub(crate) fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// Returns `None` without a limit, and zero once the deadline has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0
            .map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn has_passed(self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// The earlier one of the two.
    pub(crate) fn min(self, other: Self) -> Self {
        let both = self.0.zip(other.0).map(|(one, other)| one.min(other));
        Self(both.or(self.0).or(other.0))
    }

    /// The later one of the two.
    pub(crate) fn max(self, other: Self) -> Self {
        Self(self.0.zip(other.0).map(|(one, other)| one.max(other)))
    }

    pub(crate) fn extended_by(self, duration: Duration) -> Self {
        Self(self.0.and_then(|instant| instant.checked_add(duration)))
    }
}

/// The attempts at a step that another process may hinder for an instant. The time alone does not
/// limit them: while this process does not run, time passes too, so that a single attempt may last
/// longer. Async-signal-safe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    time: Duration,
    /// The end of the time, which begins when an attempt has failed: few steps need a second one,
    /// and the others need not ask for the time.
    deadline: Option<Deadline>,
    required: u32,
}

impl Attempts {
    /// How many attempts are made in any case, unless more are asked for.
    pub(crate) const MIN: u32 = 20;

    pub(crate) fn within(time: Duration) -> Self {
        Self {
            time,
            deadline: None,
            required: Self::MIN,
        }
    }

    pub(crate) fn until(deadline: Deadline) -> Self {
        Self {
            deadline: Some(deadline),
            ..Self::within(Duration::ZERO)
        }
    }

    /// Makes this many attempts in any case.
    pub(crate) fn at_least(self, required: u32) -> Self {
        Self { required, ..self }
    }

    /// Counts an attempt that has failed.
    pub(crate) fn count(&mut self) {
        let time = self.time;
        self.deadline.get_or_insert_with(|| Deadline::after(time));
        self.required = self.required.saturating_sub(1);
    }

    pub(crate) fn are_over(&self) -> bool {
        self.required == 0 && self.deadline.is_some_and(Deadline::has_passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_outlasts_the_time_is_not_the_last() {
        let mut attempts = Attempts::within(Duration::ZERO);
        for _ in 0..Attempts::MIN {
            assert!(!attempts.are_over());
            attempts.count();
        }
        assert!(attempts.are_over());
        let mut attempts = Attempts::within(Duration::ZERO).at_least(200);
        for _ in 0..200 {
            assert!(!attempts.are_over());
            attempts.count();
        }
        assert!(attempts.are_over());
        let mut attempts = Attempts::until(Deadline::NEVER);
        for _ in 0..=Attempts::MIN {
            attempts.count();
        }
        assert!(!attempts.are_over());
    }

    #[test]
    fn a_deadline_passes_unless_it_is_never() {
        let now = Deadline::after(Duration::ZERO);
        assert!(now.has_passed());
        assert_eq!(now.remaining(), Some(Duration::ZERO));
        let later = now.extended_by(Duration::from_secs(3600));
        assert!(later.is_set() && !later.has_passed());
        assert_eq!(now.max(later), later);
        assert_eq!(now.min(later), now);
        for never in [Deadline::NEVER, Deadline::after(Duration::MAX)] {
            assert!(!never.is_set() && !never.has_passed());
            assert_eq!(never.extended_by(Duration::ZERO), never);
            assert_eq!(never.max(later), never);
            assert_eq!(never.min(later), later);
            assert_eq!(later.min(never), later);
        }
    }
}
