//! Run your code as a SysV daemon.
#![cfg(unix)]

mod daemonize;
mod error;
mod identity;
mod pid_file;
mod report;
mod root;
mod sequence;
mod streams;
mod sys;

pub use daemonize::{Child, Daemonize, Mask, Outcome, Parent};
pub use error::{Error, ErrorKind};
pub use identity::{Group, User};
pub use streams::Stdio;
