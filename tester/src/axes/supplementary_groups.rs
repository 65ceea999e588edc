//! `supplementary_groups`. Its step is part of [`predict::identity`](crate::predict).

use super::{Axis, Choice, NUMBER, Rights, Stage, UNKNOWN, lacks_right_to_change_ids};
use crate::config::{Identity, SupplementaryGroups};

axis! {
    Supplementary |stage| stage.config.options.supplementary_groups => {
        Unset => None;
        FromDatabase => Some(SupplementaryGroups::FromDatabase);
        Keep => Some(SupplementaryGroups::Keep);
        None => Some(SupplementaryGroups::Only(Vec::new()));
        Others => ordinary_and(stage, NUMBER.into(), 1);
        /// The same, each of them twice.
        Duplicates => ordinary_and(stage, NUMBER.into(), 2);
        Unknown => ordinary_and(stage, UNKNOWN.into(), 1), fails;
        /// The id that means 'unchanged' to the kernel.
        Reserved => ordinary_and(stage, u32::MAX.into(), 1), fails;
        Nul => ordinary_and(stage, "with\0nul".into(), 1), fails;
    }
}

fn ordinary_and(stage: &Stage<'_>, other: Identity, times: usize) -> Option<SupplementaryGroups> {
    let both = [stage.databases.ordinary_group().into(), other];
    Some(SupplementaryGroups::Only(vec![both; times].concat()))
}

impl Axis for Supplementary {
    fn expected_failure(self, _other: &Choice, rights: Option<Rights>) -> Option<&'static str> {
        let needs_root = match self {
            Self::Others | Self::Duplicates => true,
            Self::None => rights.is_some_and(|rights| rights.has_groups),
            _ => false,
        };
        (needs_root && lacks_right_to_change_ids(rights)).then_some("only root can change ids")
    }
}
