//! Each kind of error is provoked.

use std::collections::BTreeSet;

use tester::config::{Directory, ErrorText, Stream};
use tester::{Scenario, scenario};

use crate::attempts::DATABASES;
use crate::rows::rows;
use crate::scenes::Scene;

/// Makes [`Kind`] of the library's own list. `ErrorKind` is not exhaustive outside
/// the library, so that the compiler would not miss a new kind here.
macro_rules! error_kinds {
    (@ $errno:ident $kind:ident) => {
        stringify!($kind)
    };
    ($( $(#[$documentation:meta])* $number:literal $kind:ident $(($errno:ident))? $message:literal $(, $subject:ident)?; )*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Kind {
            $( $kind, )*
        }

        impl Kind {
            const ALL: &[Self] = &[$( Self::$kind ),*];
        }

        /// The kinds that have an errno.
        const WITH_ERRNO: &[&str] = &[$( $( error_kinds!(@ $errno $kind), )? )*];
    };
}

include!("../../src/error_kinds.rs");

/// Whether this is the name of a kind with an errno.
pub(crate) fn has_errno(kind: &str) -> bool {
    WITH_ERRNO.contains(&kind)
}

/// A start that fails with this kind without any fault; `None` if other tests
/// provoke the kind, or if no start of this platform does.
fn provoked_without_fault(kind: Kind) -> Option<Option<fn() -> Scenario>> {
    Some(match kind {
        Kind::GroupNotFound => Some(|| scenario!().group("no-such-group")),
        Kind::GroupContainsNul => Some(|| scenario!().group("a\0b")),
        Kind::UserNotFound => Some(|| scenario!().user("no-such-user")),
        Kind::UserContainsNul => Some(|| scenario!().user("a\0b")),
        Kind::PathContainsNul => Some(|| scenario!().pid_file("a\0b")),
        Kind::LocateDirectory => Some(|| scenario!().directories([Directory::at("relative")])),
        Kind::PrimaryGroupUnknown => Some(|| scenario!().user(UNUSED_ID)),
        Kind::UserEnvironmentUnknown => Some(|| {
            let scenario = scenario!().user(UNUSED_ID).group(UNUSED_ID);
            scenario.user_environment()
        }),
        Kind::OptionWithProgram => Some(|| scenario!().spawn().upgrade(true)),
        Kind::PayloadTooLong => Some(|| scenario!().ready_payload(vec![0; 2049])),
        Kind::PrivilegedAction => {
            Some(|| scenario!().try_privileged_action(ErrorText::from("no luck")))
        }
        Kind::StandardInputIsLogFile => Some(|| scenario!().stdin(Stream::log("input.log"))),
        // The documentation says that no start returns these kinds.
        Kind::GetPidfileFlags | Kind::SetPidfileFlags => None,
        // tests/start provokes these kinds.
        Kind::StartWithinStart | Kind::SharedEventQueue | Kind::FirstProcess => None,
        // Only platforms that lack an option return this kind.
        Kind::Unsupported => None,
        _ => return None,
    })
}

/// No user has this id.
const UNUSED_ID: u32 = 4_000_000;

/// Each kind is provoked by a row, a scene or a database, or else by a start above.
pub(crate) fn every_kind_of_error_is_provoked() {
    let of_rows = rows().iter().flat_map(|row| &row.trials);
    let of_rows = of_rows.filter_map(|trial| trial.effect.kind());
    let of_scenes = Scene::ALL.iter().filter_map(|scene| scene.fails_with());
    let of_databases = DATABASES.iter().map(|(_, kind)| *kind);
    let by_fault: BTreeSet<_> = (of_rows.chain(of_scenes).chain(of_databases))
        .map(|kind| kind.split('(').next().unwrap_or_default())
        .collect();
    for &kind in Kind::ALL {
        let name = format!("{kind:?}");
        let without_fault = provoked_without_fault(kind);
        if let Some(Some(scenario)) = without_fault {
            assert_eq!(scenario().fail().kind_name(), name);
        }
        assert_ne!(
            by_fault.contains(name.as_str()),
            without_fault.is_some(),
            "{name}"
        );
    }
}
