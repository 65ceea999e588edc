//! The program that a daemon executes: its preparation before the fork, since nothing may be
//! allocated afterwards. The launcher may have other threads.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use crate::activation::Activation;
use crate::environment::UserEnvironment;
use crate::error::{Error, ErrorKind};
use crate::identity::GroupRoom;
use crate::options::Options;
use crate::pid_file;
use crate::program::{Program, ProgramReadiness};
use crate::start::c_path::c_path;
use crate::start::program_readiness::{ProgramStatus, ReadinessPlan};
use crate::subject::Subject;
use crate::sys::{self, CStringArray, Errno, Pid, ProgramEnvironment, Uid, errno};

/// A program, with all that must be allocated before the fork.
pub(super) struct ProgramPlan {
    pub(super) launcher: Pid,
    /// The paths that are tried, in order.
    candidates: Vec<CString>,
    arguments: CStringArray,
    pub(super) environment: ProgramEnvironment,
    /// The descriptors that stay open across execve(2) because the caller has named them.
    pub(super) inherited: Vec<RawFd>,
    pub(super) group_room: GroupRoom,
    pub(super) readiness: ReadinessPlan,
    /// What the intermediate reads.
    pub(super) status: ProgramStatus,
}

impl ProgramPlan {
    /// `user_environment` and `activation` are those of the options. Must precede the opening of any
    /// descriptor for this start.
    pub(super) fn new(
        program: &Program,
        options: &Options,
        user_environment: Option<&UserEnvironment>,
        activation: Option<&Activation>,
    ) -> Result<Self, Error> {
        c_path(program.path())?;
        let refuse = |reason| Err(failed(program, errno::EINVAL).with_reason(reason));
        let mut arguments = Vec::new();
        for argument in program.arguments() {
            match CString::new(argument.as_bytes()) {
                Ok(argument) => arguments.push(argument),
                Err(_) => return refuse("an argument contains a NUL byte"),
            }
        }
        let mut variables = variables(env::vars_os(), program, user_environment);
        let (mut with_pid, removed) = activation.map(Activation::variables).unwrap_or_default();
        let pid_file = [pid_file::FD_VARIABLE, pid_file::PID_VARIABLE];
        for name in removed.iter().chain(&with_pid).chain(&pid_file) {
            variables.remove(OsStr::new(name));
        }
        // `env_clear` does not mean the sockets.
        for name in activation.into_iter().flat_map(Activation::companions) {
            if let Some(value) = env::var_os(name).filter(|_| !program.inherits_environment()) {
                variables.entry(OsString::from(name)).or_insert(value);
            }
        }
        let with_descriptor = (options.pid_file.as_ref()).map(|_| {
            with_pid.push(pid_file::PID_VARIABLE);
            pid_file::FD_VARIABLE
        });
        let readiness = ReadinessPlan::new(program.readiness());
        if let Some(address) = readiness.address() {
            variables.insert(OsString::from("NOTIFY_SOCKET"), OsString::from(address));
        }
        let candidates = candidates(program, variables.get(OsStr::new("PATH")))?;
        let mut environment = Vec::new();
        let mut named = program
            .environment()
            .iter()
            .map(|(name, _)| name.as_bytes());
        if named.any(|name| name.is_empty() || name.contains(&b'=')) {
            return refuse("the name of an environment variable is empty or contains `=`");
        }
        for (name, value) in variables {
            let mut variable = name.into_vec();
            variable.push(b'=');
            variable.extend(value.into_vec());
            match CString::new(variable) {
                Ok(variable) => environment.push(variable),
                Err(_) => return refuse("an environment variable contains a NUL byte"),
            }
        }
        let named = options.close_inherited_fds.iter().flatten().copied();
        let sockets = activation.into_iter().flat_map(Activation::sockets);
        let inherited: Vec<RawFd> = named.chain(sockets).collect();
        if let ProgramReadiness::NotificationFd(number) = program.readiness() {
            if number < 3 {
                return refuse("the notification descriptor has the number of a standard stream");
            }
            if inherited.contains(&number) {
                return refuse("the notification descriptor has the number of one that is kept");
            }
        }
        let inherited = inherited.into_iter();
        Ok(Self {
            launcher: Pid::current(),
            candidates,
            arguments: CStringArray::new(arguments),
            environment: ProgramEnvironment::new(environment, &with_pid, with_descriptor),
            inherited: inherited.filter(|&number| sys::is_open(number)).collect(),
            group_room: GroupRoom::reserved(),
            status: ProgramStatus::with_room(&readiness),
            readiness,
        })
    }

    /// Tries the paths as execvp(3) of glibc does, but takes no file for a script of a shell.
    /// Returns only if it fails. Async-signal-safe.
    pub(super) fn execve(&mut self) -> Errno {
        let is_search = self.candidates.len() != 1;
        let mut last = errno::ENOENT;
        for path in &self.candidates {
            match sys::execve(path, &mut self.arguments, &mut self.environment) {
                // A file server may have gone.
                errno::ENOENT
                | errno::ENOTDIR
                | errno::ESTALE
                | errno::ENODEV
                | errno::ETIMEDOUT
                    if is_search => {}
                errno::EACCES if is_search => last = errno::EACCES,
                errno => return errno,
            }
        }
        last
    }
}

fn failed(program: &Program, errno: Errno) -> Error {
    Error::from(ErrorKind::ExecuteProgram(errno)).with_path(program.path())
}

fn variables(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    program: &Program,
    user_environment: Option<&UserEnvironment>,
) -> BTreeMap<OsString, OsString> {
    let mut variables = BTreeMap::new();
    if program.inherits_environment() {
        for (name, value) in inherited {
            // As for getenv(3), the first of several counts.
            variables.entry(name).or_insert(value);
        }
    }
    for (name, value) in user_environment.iter().flat_map(|set| set.variables()) {
        let [name, value] = [name, &**value].map(|string| OsStr::from_bytes(string.to_bytes()));
        variables.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in program.environment() {
        match value {
            Some(value) => variables.insert(name.clone(), value.clone()),
            None => variables.remove(name),
        };
    }
    variables
}

/// The paths by which execvp(3) finds the program. An empty name in `PATH` is the working directory.
fn candidates(program: &Program, path: Option<&OsString>) -> Result<Vec<CString>, Error> {
    let name = program.path();
    let whole = c_path(name)?;
    if whole.is_empty() || whole.to_bytes().contains(&b'/') {
        return Ok(vec![whole]);
    }
    let default = OsStr::from_bytes(sys::PATH_OF_USERS.to_bytes());
    let directories = env::split_paths(path.map_or(default, OsString::as_os_str));
    directories
        .map(|directory| c_path(&directory.join(name)))
        .collect()
}

/// Refuses the options that have no meaning for a program, or cannot keep their promise.
pub(super) fn refuse_options(options: &Options) -> Result<(), Error> {
    let refused = [
        (
            "privileged_action",
            options.has_closures,
            "no code of the launcher runs in the daemon",
        ),
        (
            "foreground",
            options.foreground,
            "this process itself would become the program: use `CommandExt::exec`",
        ),
        (
            "upgrade",
            options.upgrade,
            "the program could not undo a takeover that fails",
        ),
        (
            "keep_capabilities",
            options.keep_capabilities.is_some(),
            "execve(2) takes them away: use `ambient_capabilities`",
        ),
    ];
    match refused.into_iter().find(|(_, is_set, _)| *is_set) {
        Some((option, _, reason)) => Err(refusal(option, reason)),
        None => Ok(()),
    }
}

/// Refuses ambient capabilities for root. `user` is that of the daemon, if it changes.
pub(super) fn refuse_ambient_capabilities_of_root(
    options: &Options,
    user: Option<Uid>,
) -> Result<(), Error> {
    let is_root = user.map_or_else(|| sys::user_ids().has(Uid::ROOT), |user| user == Uid::ROOT);
    match options.ambient_capabilities.is_some() && is_root {
        true => Err(refusal(
            "ambient_capabilities",
            "execve(2) gives root all capabilities: set `user` to another user",
        )),
        false => Ok(()),
    }
}

fn refusal(option: &str, reason: &'static str) -> Error {
    Error::from(ErrorKind::OptionWithProgram)
        .with_subject(Subject::Name(String::from(option)))
        .with_reason(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_variables_are_those_that_getenv_finds_whatever_their_names_are() {
        let inherited = [("SEED", "first"), ("SEED", "second"), ("=C:", "/")];
        let inherited = inherited.map(|(name, value)| (name.into(), value.into()));
        let program = Program::new("clockd").env("OWN", "value");
        let found = variables(inherited.into_iter(), &program, None);
        let expected = [("=C:", "/"), ("OWN", "value"), ("SEED", "first")];
        let expected = expected.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(found, BTreeMap::from(expected));
    }
}
