//! The preparation of a start.

use std::ffi::CString;
use std::os::fd::RawFd;

use crate::activation::Activation;
use crate::directory::DirectoryPlan;
use crate::environment::UserEnvironment;
use crate::error::{Error, ErrorKind};
use crate::identity::{Identity, User};
use crate::options::Options;
use crate::own_fds;
use crate::pid_file::{self, PidFilePlan, Takeover};
use crate::program::{Program, ProgramReadiness};
use crate::start::c_path::{c_path, c_path_if_set};
use crate::start::inherited::{Closed, KeptDescriptors};
use crate::start::program::{self, ProgramPlan};
use crate::start::progress::Progress;
use crate::streams::{Log, LogUsers, Streams, StreamsPlan};
use crate::subject::Subject;
use crate::sys::{self, errno};

/// The options, and the results of look-ups and allocations before the fork: between fork(2)
/// and the first closure nothing allocates.
pub(super) struct Plan<'a> {
    pub(super) options: &'a Options,
    pub(super) streams: StreamsPlan,
    pub(super) kept_descriptors: Option<KeptDescriptors>,
    pub(super) working_directory: Option<CString>,
    pub(super) directories: Vec<DirectoryPlan>,
    pub(super) pid_file: Option<PidFilePlan>,
    pub(super) takeover: Option<Takeover>,
    pub(super) root: Option<CString>,
    pub(super) identity: Option<Identity>,
    pub(super) user_environment: Option<UserEnvironment>,
    /// What the daemon takes over from the service manager.
    pub(super) activation: Option<Activation>,
    pub(super) progress: Progress,
    /// The program that the daemon executes.
    pub(super) program: Option<ProgramPlan>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(options: &'a Options, streams: Streams) -> Result<Self, Error> {
        let working_directory = c_path_if_set(options.working_directory.as_deref())?;
        // The error of an invalid path names the caller's path, and not that of a successor.
        c_path_if_set(options.pid_file.as_deref())?;
        let pid_file = c_path_if_set(options.locked_pid_file().as_deref())?;
        let root = c_path_if_set(options.chroot.as_deref())?;
        let directories = options.directories.iter();
        let mut directories = directories
            .map(DirectoryPlan::new)
            .collect::<Result<Vec<_>, _>>()?;
        let log_files = c_log_files(options)?;
        refuse_nul_in_names(options)?;
        if let (Some(path), Some(mode)) = (&options.pid_file, options.pid_file_mode) {
            pid_file::check_mode(mode).map_err(|reason| {
                let error = Error::from(ErrorKind::ChmodPidfile(errno::EINVAL));
                let subject = Subject::Path(path.clone());
                error.with_subject(subject).with_reason(reason)
            })?;
        }
        refuse_unsupported(options)?;
        if options.program.is_some() {
            program::refuse_options(options)?;
        }
        let (identity, user_entry) = Identity::resolve(
            options.user.as_ref(),
            options.group.as_ref(),
            &options.supplementary_groups,
            options.user_environment,
            options.keep_capabilities.as_deref(),
            options.ambient_capabilities.as_deref(),
        )?;
        if options.program.is_some() {
            let user = identity.as_ref().and_then(|identity| identity.user);
            program::refuse_ambient_capabilities_of_root(options, user)?;
        }
        if let Some(identity) = &identity {
            for directory in &mut directories {
                directory.give_to(identity);
            }
        }
        let user_environment = (options.user_environment)
            .then(|| UserEnvironment::resolve(options.user.as_ref(), user_entry))
            .transpose()?;
        let mut pid_file = pid_file
            .map(|path| plan_pid_file(options, path, identity.as_ref()))
            .transpose()?;
        let takeover = plan_takeover(options, pid_file.as_mut())?;
        let logs = plan_logs(options, log_files, identity.as_ref())?;
        let mut streams = StreamsPlan::new(streams, logs);
        // In the foreground this process keeps what earlier starts have opened.
        let own_fds = match options.foreground {
            true => own_fds::numbers(),
            false => Vec::new(),
        };
        let activation = (options.socket_activation).then(Activation::find).flatten();
        let closed = match (&options.close_inherited_fds, &options.program) {
            (Some(_), _) => Some(Closed::All),
            (None, Some(_)) => Some(Closed::BeforeExec),
            (None, None) => None,
        };
        let kept_descriptors = closed.map(|closed| {
            let named = options.close_inherited_fds.iter().flatten().copied();
            let sockets = activation.iter().flat_map(Activation::sockets);
            let named: Vec<RawFd> = named.chain(sockets).collect();
            KeptDescriptors::new(closed, &named, &streams, &own_fds)
        });
        let program = (options.program.as_ref()).map(|program| {
            streams.replace_at_once();
            ProgramPlan::new(
                program,
                options,
                user_environment.as_ref(),
                activation.as_ref(),
            )
        });
        Ok(Self {
            options,
            program: program.transpose()?,
            streams,
            kept_descriptors,
            working_directory,
            directories,
            pid_file,
            takeover,
            root,
            identity,
            user_environment,
            activation: activation.filter(|_| !options.foreground),
            // The launcher reads the step if the time runs out.
            progress: match options.startup_timeout {
                Some(_) if !options.foreground => Progress::new(),
                _ => Progress::default(),
            },
        })
    }
}

impl Plan<'_> {
    /// Creates the directories of the daemon, and gives them to the user of the daemon.
    pub(super) fn create_directories(&self) -> Result<(), Error> {
        self.directories.iter().try_for_each(DirectoryPlan::create)
    }
}

fn plan_pid_file(
    options: &Options,
    path: CString,
    identity: Option<&Identity>,
) -> Result<PidFilePlan, Error> {
    let mut plan = PidFilePlan::new(path);
    plan.absolute_path = c_path_if_set(options.absolute_locked_pid_file().as_deref())?;
    plan.new_owner = (options.chown_pid_file_user.as_ref())
        .map(User::resolve_uid)
        .transpose()?;
    plan.new_group = (options.chown_pid_file_group.as_ref())
        .map(|group| group.resolve(ErrorKind::ChownPidfile))
        .transpose()?;
    plan.daemon_user = identity.and_then(|identity| identity.user);
    if options.chown_pid_file {
        plan.new_owner = plan.new_owner.or(plan.daemon_user);
        let daemon_group = identity.and_then(|identity| identity.group);
        plan.new_group = plan.new_group.or(daemon_group);
    }
    plan.mode = options.pid_file_mode;
    if options.foreground {
        plan.own = own_fds::pid_files();
    }
    Ok(plan)
}

/// Finds the daemon whose pid file a successor takes over.
fn plan_takeover(
    options: &Options,
    plan: Option<&mut PidFilePlan>,
) -> Result<Option<Takeover>, Error> {
    let (Some(path), Some(plan), true) = (&options.pid_file, plan, options.upgrade) else {
        return Ok(None);
    };
    let failed = |errno| {
        let subject = Subject::Path(path.clone());
        Error::from(ErrorKind::TakeOverPidfile(errno)).with_subject(subject)
    };
    if options.foreground {
        let reason = "the foreground has no launcher that could take it over";
        return Err(failed(errno::EINVAL).with_reason(reason));
    }
    let absolute = options.absolute(path);
    let absolute = absolute.ok_or_else(|| {
        failed(errno::ENOENT).with_reason("the working directory of this process is unknown")
    })?;
    plan.taken_over_path = Some(c_path(&absolute)?);
    Takeover::plan(absolute, path).map(Some)
}

/// Refuses a log file as standard input, which would always be empty.
fn c_log_files(options: &Options) -> Result<[Option<CString>; 3], Error> {
    let [input, output, error] = options.log_files.each_ref().map(Option::as_deref);
    if let Some(path) = input {
        let subject = Subject::Path(path.to_owned());
        return Err(Error::from(ErrorKind::StandardInputIsLogFile).with_subject(subject));
    }
    Ok([None, c_path_if_set(output)?, c_path_if_set(error)?])
}

fn plan_logs(
    options: &Options,
    paths: [Option<CString>; 3],
    identity: Option<&Identity>,
) -> Result<[Option<Log>; 3], Error> {
    let mut logs = [None, None, None];
    if paths.iter().all(Option::is_none) {
        return Ok(logs);
    }
    let users = LogUsers {
        launcher: Some(sys::geteuid()),
        daemon: identity.and_then(|identity| identity.user),
        daemon_group: identity.and_then(|identity| identity.group),
    };
    for ((log, path), given) in logs.iter_mut().zip(paths).zip(&options.log_files) {
        let absolute = given.as_ref().and_then(|path| options.absolute(path));
        let absolute = c_path_if_set(absolute.as_deref())?;
        *log = path.map(|path| Log::new(path, absolute, users));
    }
    Ok(logs)
}

fn refuse_unsupported(options: &Options) -> Result<(), Error> {
    let lacks_capabilities = !sys::HAS_CAPABILITIES;
    let readiness = options.program.as_ref().map(Program::readiness);
    let unsupported = [
        (
            "no_new_privileges",
            options.no_new_privileges && !sys::HAS_NO_NEW_PRIVILEGES,
        ),
        ("dumpable", options.dumpable && !sys::HAS_DUMPABLE),
        (
            "keep_capabilities",
            options.keep_capabilities.is_some() && lacks_capabilities,
        ),
        (
            "ambient_capabilities",
            options.ambient_capabilities.is_some() && lacks_capabilities,
        ),
        (
            "notify_socket",
            readiness == Some(ProgramReadiness::NotifySocket) && !sys::HAS_NOTIFY_SOCKET,
        ),
    ];
    match unsupported.into_iter().find(|(_, is_set)| *is_set) {
        Some((option, _)) => {
            Err(Error::from(ErrorKind::Unsupported)
                .with_subject(Subject::Name(String::from(option))))
        }
        None => Ok(()),
    }
}

/// Precedes all look-ups, so that the error names the mistake of the caller.
fn refuse_nul_in_names(options: &Options) -> Result<(), Error> {
    let users = [&options.user, &options.chown_pid_file_user];
    if let Some(user) = users.into_iter().flatten().find(|user| user.contains_nul()) {
        return Err(Error::from(ErrorKind::UserContainsNul).with_subject(user.subject()));
    }
    let groups = [&options.group, &options.chown_pid_file_group];
    let mut groups = (groups.into_iter().flatten()).chain(options.supplementary_groups.named());
    match groups.find(|group| group.contains_nul()) {
        Some(group) => Err(Error::from(ErrorKind::GroupContainsNul).with_subject(group.subject())),
        None => Ok(()),
    }
}
