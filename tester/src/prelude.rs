//! The names that most tests use: `use tester::prelude::*;`.

pub use std::fs::{self, File};
pub use std::io;
pub use std::os::fd::AsFd;
pub use std::os::unix::fs::{MetadataExt, chown, symlink};
pub use std::path::{Path, PathBuf};
pub use std::process::Command;
pub use std::sync::atomic::{AtomicBool, Ordering};
pub use std::thread;
pub use std::time::{Duration, Instant};

pub use daemonize2::PidFile;

pub use crate::config::{
    Access, AnotherStart, Blocked, Bytes, Deferral, Directory, DirectoryPlace, Disposition, Entry,
    ErrorText, Fallible, Foreground, Identity, Ids, InitialState, Life, OpenDescriptor, PanicHook,
    ProgramReadiness, ReadinessUse, Session, Step, Stream, SupplementaryGroups, SystemCall,
    UserNamespace,
};
pub use crate::control::{self, Frame, Message};
pub use crate::fixtures::*;
pub use crate::harness::{at_once, mount, sweep, while_repeating, with_own_mounts};
pub use crate::report::{Place, Report, StartError};
pub use crate::slowness::{scaled, time_limit};
pub use crate::suite::{self, Case};
pub use crate::texts::*;
pub use crate::{Run, Scenario, case, daemon, scenario, select, sys};
