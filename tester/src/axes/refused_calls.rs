//! The system calls that an old kernel does not have, or that a sandbox forbids. The library uses
//! others instead, so that no value changes the outcome.

use super::{Axis, Choice};
use crate::config::SystemCall;
use crate::model::databases::Databases;
use crate::sys;

axis! {
    RefusedCalls |stage| stage.config.initial.refused_calls => {
        None => vec![];
        /// Those that Linux 3.14 does not have.
        OfNewKernels => refused(&OF_NEW_KERNELS, libc::ENOSYS);
        /// Those that a sandbox of that time does not know, and unshare(2), which containers forbid.
        OfSandbox => refused(&OF_SANDBOX, libc::EPERM);
    }
}

/// With the version of Linux that has introduced each.
const OF_NEW_KERNELS: [SystemCall; 5] = [
    SystemCall::Renameat2,       // 3.15
    SystemCall::Statx,           // 4.11
    SystemCall::PidfdSendSignal, // 5.1
    SystemCall::PidfdOpen,       // 5.3
    SystemCall::CloseRange,      // 5.9
];

const OF_SANDBOX: [SystemCall; 5] = [
    SystemCall::Unshare,
    SystemCall::Statx,
    SystemCall::PidfdSendSignal,
    SystemCall::PidfdOpen,
    SystemCall::CloseRange,
];

fn refused(calls: &[SystemCall], errno: i32) -> Vec<(SystemCall, i32)> {
    calls.iter().map(|&call| (call, errno)).collect()
}

impl Axis for RefusedCalls {
    fn contradiction(self, _other: &Choice, _databases: &Databases) -> Option<&'static str> {
        (self != Self::None && !sys::can_refuse_calls()).then_some("there is no seccomp(2)")
    }
}
