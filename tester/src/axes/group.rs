//! `group`. Its step is part of [`predict::identity`](crate::predict).

use super::{Axis, Choice, NUMBER, Rights, UNKNOWN, id, lacks_right_to_change_ids, name};

axis! {
    Group |stage| stage.config.options.group => {
        None => None;
        Own => id(stage.caller().1);
        Ordinary => name(stage.databases.ordinary_group());
        /// An id without an entry.
        Number => id(NUMBER);
        Root => id(0);
        Unknown => name(UNKNOWN), fails;
        /// The id that means 'unchanged' to the kernel.
        Reserved => id(u32::MAX), fails;
        Nul => name("with\0nul"), fails;
    }
}

impl Axis for Group {
    fn expected_failure(self, _other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let needs_root = match self {
            Self::None => false,
            // The group replaces the supplementary groups.
            Self::Own => rights.is_some_and(|rights| rights.has_groups),
            _ => true,
        };
        (needs_root && lacks_right_to_change_ids(rights)).then_some("only root can change ids")
    }
}
