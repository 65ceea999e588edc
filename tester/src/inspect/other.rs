//! The platforms that show nothing but the report of the observer.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;

use super::{Facts, Lock};
use crate::report::{Descriptor, SignalSet};

pub(in crate::inspect) fn facts(pid: u32) -> Facts {
    Facts {
        pids: vec![pid],
        ..Facts::default()
    }
}

/// By the path of the file, if that leads to the same file.
pub(in crate::inspect) fn metadata(_pid: u32, descriptor: &Descriptor) -> Option<Metadata> {
    let metadata = fs::metadata(descriptor.target.as_ref()?.to_path()).ok()?;
    let place = (Some(metadata.dev()), Some(metadata.ino()));
    ((descriptor.device, descriptor.inode) == place).then_some(metadata)
}

/// The observer says whether there is a lock, but not which.
pub(in crate::inspect) fn locks_of(pid: u32, descriptor: &Descriptor) -> Option<Vec<Lock>> {
    let lock = |is_locked: bool| {
        let kind = "FLOCK".to_owned();
        is_locked.then_some(Lock { kind, pid })
    };
    Some(lock(descriptor.locked?).into_iter().collect())
}

pub(in crate::inspect) fn locks_on(_file: &Metadata) -> Option<Vec<Lock>> {
    None
}

pub(in crate::inspect) fn accepted_signals(_pid: u32, _descriptor: &Descriptor) -> SignalSet {
    SignalSet::default()
}

pub(in crate::inspect) fn are_copies(_one: (u32, i32), _other: (u32, i32)) -> Option<bool> {
    None
}
