//! The end of a wait.

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

    /// The later one of the two.
    pub(crate) fn max(self, other: Self) -> Self {
        Self(self.0.zip(other.0).map(|(one, other)| one.max(other)))
    }

    pub(crate) fn extended_by(self, duration: Duration) -> Self {
        Self(self.0.and_then(|instant| instant.checked_add(duration)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_passes_unless_it_is_never() {
        let now = Deadline::after(Duration::ZERO);
        assert!(now.has_passed());
        assert_eq!(now.remaining(), Some(Duration::ZERO));
        let later = now.extended_by(Duration::from_secs(3600));
        assert!(later.is_set() && !later.has_passed());
        assert_eq!(now.max(later), later);
        for never in [Deadline::NEVER, Deadline::after(Duration::MAX)] {
            assert!(!never.is_set() && !never.has_passed());
            assert_eq!(never.extended_by(Duration::ZERO), never);
            assert_eq!(never.max(later), never);
        }
    }
}
