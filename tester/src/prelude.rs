//! The names that most tests use: `use tester::prelude::*;`.

pub use crate::config::{
    Access, AnotherStart, Blocked, Bytes, Deferral, Disposition, Entry, ErrorText, Fallible,
    Foreground, Identity, Ids, InitialState, Life, OpenDescriptor, PanicHook, ReadinessUse,
    Session, Step, Stream, SupplementaryGroups, SystemCall, UserNamespace,
};
pub use crate::control::{self, Frame, Message};
pub use crate::fixtures::*;
pub use crate::harness::{DEADLINE, Until, mount, with_own_mounts};
pub use crate::report::{Place, Report, StartError};
pub use crate::suite::{self, Case};
pub use crate::{Run, Scenario, case, daemon, scenario, sys};
