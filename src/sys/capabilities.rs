//! Sets of capabilities, and the secure bits of capabilities(7).

/// The capabilities of a thread, as bit masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    /// The permitted set, and the effective one.
    pub(crate) permitted: u64,
    /// The inheritable set, and the ambient one.
    pub(crate) inheritable: u64,
}

impl CapabilitySets {
    pub(crate) const NONE: Self = Self {
        permitted: 0,
        inheritable: 0,
    };
}

/// The secure bits that matter to a thread that keeps capabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecureBits {
    /// A change from root to another user does not empty the permitted set.
    pub(crate) keeps_permitted: bool,
    /// `keeps_permitted` cannot be changed.
    pub(crate) is_locked: bool,
    /// A change of the user changes no set at all.
    pub(crate) keeps_all: bool,
    /// No capability can be added to the ambient set.
    pub(crate) forbids_ambient: bool,
}
