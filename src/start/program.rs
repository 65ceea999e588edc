//! The program that the daemon executes: its preparation before the fork, the steps of the daemon,
//! and how the intermediate notices the execution. docs/decisions/0012-exec-in-the-daemon.md has
//! the reasons.
//!
//! The launcher may have other threads. Between fork(2) and execve(2) nothing therefore allocates,
//! frees or waits for a lock, also if a step fails.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use crate::activation::Activation;
use crate::deadline::Deadline;
use crate::environment::UserEnvironment;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::identity::{self, GroupRoom};
use crate::options::Options;
use crate::outcome::FailureMode;
use crate::program::Program;
use crate::root::{self, LogFiles};
use crate::start::daemon::take_first_steps;
use crate::start::intermediate::Inheritance;
use crate::start::plan::{Plan, c_path};
use crate::start::progress::Step;
use crate::start::uncommitted::{ReadySink, UncommittedStart};
use crate::subject::Subject;
use crate::sys::{
    self, CStringArray, Errno, OtherThreads, Pid, ProgramEnvironment, SignalMask, Uid, Wait, errno,
};

/// A program, with all that must be allocated before the fork.
pub(super) struct ProgramPlan {
    /// The paths that are tried, in order.
    candidates: Vec<CString>,
    arguments: CStringArray,
    environment: ProgramEnvironment,
    /// The descriptors that stay open across execve(2) because the caller has named them.
    inherited: Vec<RawFd>,
    group_room: GroupRoom,
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
        c_path(Some(program.path()))?;
        let refuse = |reason| Err(failed(program, errno::EINVAL).with_reason(reason));
        let mut arguments = Vec::new();
        for argument in program.arguments() {
            match CString::new(argument.as_bytes()) {
                Ok(argument) => arguments.push(argument),
                Err(_) => return refuse("an argument contains a NUL byte"),
            }
        }
        let mut variables = variables(program, user_environment);
        let (with_pid, removed) = activation.map(Activation::variables).unwrap_or_default();
        for name in removed.iter().chain(&with_pid) {
            variables.remove(OsStr::new(name));
        }
        let candidates = candidates(program, variables.get(OsStr::new("PATH")))?;
        let mut environment = Vec::new();
        for (name, value) in variables {
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return refuse("the name of an environment variable is empty or contains `=`");
            }
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
        let inherited = named.chain(sockets);
        Ok(Self {
            candidates,
            arguments: CStringArray::new(arguments),
            environment: ProgramEnvironment::new(environment, &with_pid),
            inherited: inherited.filter(|&number| sys::is_open(number)).collect(),
            group_room: GroupRoom::reserved(),
        })
    }

    /// Runs in the daemon: takes its steps, and executes the program. Async-signal-safe.
    pub(super) fn run(
        mut self,
        mut plan: Plan<'_>,
        inheritance: Inheritance,
        signal_mask: SignalMask,
    ) -> ! {
        let mut start = UncommittedStart::new(
            &mut plan,
            ReadySink::Launcher(inheritance.launcher),
            Some(inheritance.intermediate),
            FailureMode::Spawn,
        );
        let signal_mask = match plan.options.reset_signals {
            true => SignalMask::empty(),
            false => signal_mask,
        };
        let first_steps = take_first_steps(&mut plan, &mut start, inheritance.prepared);
        let mark = inheritance.program_mark;
        let mark = mark.as_ref();
        let executed = first_steps.and_then(|()| {
            sys::reset_caught_signals().map_err(ErrorKind::ResetSignals)?;
            signal_mask.restore();
            self.drop_privileges(&plan)?;
            plan.progress.reach(Step::ExecuteProgram);
            self.execute(&start, mark)
        });
        let Err(failure) = executed;
        start.fail(&failure);
        sys::_exit(1)
    }

    fn drop_privileges(&mut self, plan: &Plan<'_>) -> Result<(), Failure> {
        plan.progress.reach(Step::DropPrivileges);
        if let Some(root) = &plan.root {
            root::change(root, LogFiles::Left)?;
        }
        let others = OtherThreads::none();
        if let Some(identity) = &plan.identity {
            identity.assume(&others, &mut self.group_room)?;
        }
        match plan.options.no_new_privileges {
            true => identity::set_no_new_privileges(&others),
            false => Ok(()),
        }
    }

    /// execve(2) closes the connection to the launcher and the mark of the intermediate. The program
    /// has the pid file open, and the lock with it.
    fn execute(
        &mut self,
        start: &UncommittedStart,
        mark: Option<&ProgramMark>,
    ) -> Result<Infallible, Failure> {
        if !mark.is_some_and(ProgramMark::await_permission) {
            return Err(ErrorKind::IntermediateExited.into());
        }
        let mark = mark.map(|mark| mark.descriptor().as_raw_fd());
        for &number in &self.inherited {
            // If another thread of the launcher has closed the descriptor, a descriptor of this
            // start may have its number.
            if mark != Some(number) && !start.has_descriptor(number) {
                let _ = sys::clear_cloexec(number);
            }
        }
        start.pass_pid_file_on()?;
        Err(Failure::from(ErrorKind::ExecuteProgram(self.execve())))
    }

    /// Tries the paths as execvp(3) does, but takes no file for a script of a shell.
    fn execve(&mut self) -> Errno {
        let is_search = self.candidates.len() != 1;
        let mut last = errno::ENOENT;
        for path in &self.candidates {
            match sys::execve(path, &mut self.arguments, &mut self.environment) {
                errno::ENOENT | errno::ENOTDIR if is_search => {}
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
    program: &Program,
    user_environment: Option<&UserEnvironment>,
) -> BTreeMap<OsString, OsString> {
    let mut variables: BTreeMap<OsString, OsString> = match program.inherits_environment() {
        true => env::vars_os().collect(),
        false => BTreeMap::new(),
    };
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
    let Some(whole) = c_path(Some(name))? else {
        return Ok(Vec::new());
    };
    if whole.is_empty() || whole.to_bytes().contains(&b'/') {
        return Ok(vec![whole]);
    }
    let default = OsStr::from_bytes(sys::PATH_OF_USERS.to_bytes());
    let directories = env::split_paths(path.map_or(default, OsString::as_os_str));
    let candidates = directories.map(|directory| c_path(Some(&directory.join(name))));
    Ok((candidates.collect::<Result<Vec<_>, _>>()?.into_iter())
        .flatten()
        .collect())
}

/// Refuses the options that have no meaning for a program, or cannot keep their promise.
pub(super) fn refuse_options(options: &Options) -> Result<(), Error> {
    let user_is_root = || sys::user_ids().has(Uid::ROOT) && options.user.is_none();
    let has_ambient = options.ambient_capabilities.is_some();
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
        (
            "ambient_capabilities",
            has_ambient && user_is_root(),
            "execve(2) gives root all capabilities: set `user`",
        ),
    ];
    match refused.into_iter().find(|(_, is_set, _)| *is_set) {
        Some((option, _, reason)) => Err(Error::from(ErrorKind::OptionWithProgram)
            .with_subject(Subject::Name(String::from(option)))
            .with_reason(reason)),
        None => Ok(()),
    }
}

/// The daemon's end of a socket pair, close-on-exec. Only the daemon has it.
pub(super) struct ProgramMark(OwnedFd);

impl ProgramMark {
    /// Waits until the launcher can terminate this process without the intermediate. Returns false
    /// if the intermediate has ended before: no process would supervise the program.
    /// Async-signal-safe.
    fn await_permission(&self) -> bool {
        matches!(sys::recv(self.0.as_fd(), &mut [0], Wait::Yes), Ok(1..))
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The end of the intermediate. It reads an end of file when the daemon has executed the program, or
/// has ended. No process of another thread of the launcher has a copy of either end, unlike of the
/// channels.
pub(super) struct ProgramWatch {
    end: OwnedFd,
    progress: Cell<Progress>,
}

#[derive(Clone, Copy)]
enum Progress {
    Awaited,
    /// The end of file has come. The daemon has executed the program, or is about to end.
    EndOfFile(Deadline),
    Executed,
}

impl ProgramWatch {
    /// A daemon that ends becomes a zombie soon after its descriptors are closed. One that lives
    /// longer has executed the program, even if the kernel does not tell.
    const END_WAIT: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(1);

    /// Precedes the fork of the daemon. Async-signal-safe.
    pub(super) fn begin() -> Result<(Self, ProgramMark), Errno> {
        let (end, mark) = sys::socketpair()?;
        let progress = Cell::new(Progress::Awaited);
        Ok((Self { end, progress }, ProgramMark(mark)))
    }

    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Permits the daemon to execute the program. Async-signal-safe.
    pub(super) fn permit(&self) -> Result<(), Errno> {
        const PERMISSION: &[u8] = b"x";

        let (end, descriptors) = (self.end.as_fd(), [None; sys::MAX_PASSED_FDS]);
        sys::sendmsg(end, [PERMISSION, &[], &[]], descriptors, Deadline::NEVER).map(drop)
    }

    /// Returns true once, when the daemon, which was not reaped, has executed the program.
    /// Async-signal-safe.
    pub(super) fn has_begun(&self, daemon: Pid) -> bool {
        if matches!(self.progress.get(), Progress::Awaited)
            && matches!(
                sys::recv(self.end.as_fd(), &mut [0], Wait::No),
                Ok(0) | Err(errno::ECONNRESET)
            )
        {
            let deadline = Deadline::after(Self::END_WAIT);
            self.progress.set(Progress::EndOfFile(deadline));
        }
        match self.progress.get() {
            Progress::EndOfFile(deadline) => {
                let has_begun = sys::has_executed(daemon) || deadline.has_passed();
                if has_begun {
                    self.progress.set(Progress::Executed);
                }
                has_begun
            }
            Progress::Awaited | Progress::Executed => false,
        }
    }

    /// The descriptor to wait for.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        matches!(self.progress.get(), Progress::Awaited).then(|| self.end.as_fd())
    }

    /// The deadline of a wait that ends at `deadline`.
    pub(super) fn deadline(&self, deadline: Deadline) -> Deadline {
        match self.progress.get() {
            Progress::EndOfFile(_) => deadline.min(Deadline::after(Self::PAUSE)),
            Progress::Awaited | Progress::Executed => deadline,
        }
    }
}
