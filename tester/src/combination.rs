//! Every option and every initial state that a start can be tried with, as a
//! few named values each.
//!
//! An axis is one enum in `axes!`, its first value being the simplest: what
//! a start is without it. [`Combination::stage`] makes a combination's files
//! and [`Config`], [`crate::model`] says what must come of it,
//! [`crate::covering`] chooses combinations.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process;
use std::str::FromStr;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::config::{
    Access, Blocked, Bytes, Config, Deferral, Disposition, Entry, ErrorText, ExecPid, Fallible,
    Foreground, Identity, Ids, InitialState, Life, OpenDescriptor, Options, ReadinessUse, Session,
    Step, Stream, SupplementaryGroups,
};
use crate::harness::FakeServiceManager;
use crate::model::{Databases, HAS_NO_NEW_PRIVILEGES, NOBODY};
use crate::suite::{TEST_USER, TEST_USER_GROUPS, TEST_USER_ID};
use crate::{Scenario, sys};

/// The name of an axis and of its values.
#[derive(Debug)]
pub struct Axis {
    /// The field's name.
    pub name: &'static str,
    /// The variants' names, the simplest first.
    pub values: &'static [&'static str],
}

/// Makes an enum of each axis, and [`Combination`] and [`AXES`] of them all.
macro_rules! axes {
    ($(
        $(#[$doc:meta])*
        $field:ident: $axis:ident { $($(#[$value_doc:meta])* $value:ident,)* }
    )*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum $axis { $($(#[$value_doc])* $value,)* }

            impl $axis {
                const ALL: &[Self] = &[$(Self::$value),*];
            }
        )*

        /// One value of each axis.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct Combination {
            $($(#[$doc])* pub $field: $axis,)*
        }

        /// Values of some axes.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Choice {
            $($(#[$doc])* pub $field: Option<$axis>,)*
        }

        impl Choice {
            /// These, as axis and place on it.
            pub fn of(values: &[(usize, usize)]) -> Self {
                let mut places = (0..AXES.len()).map(|axis| {
                    let mut values = values.iter();
                    values.find_map(|&(other, place)| (other == axis).then_some(place))
                });
                Self {
                    $($field: places.next().flatten().map(|place| $axis::ALL[place]),)*
                }
            }
        }

        /// All axes, in the order of [`Combination`]'s fields.
        pub const AXES: &[Axis] = &[$(
            Axis { name: stringify!($field), values: &[$(stringify!($value)),*] },
        )*];

        impl Combination {
            /// The value of each axis by its place.
            ///
            /// # Panics
            ///
            /// When there are fewer places than axes, or one does not exist.
            pub fn from_places(places: &[usize]) -> Self {
                let mut places = places.iter();
                Self {
                    $($field: $axis::ALL[*places.next().expect("one for each axis")],)*
                }
            }

            /// The places of the values on their axes.
            pub fn places(&self) -> Vec<usize> {
                vec![$(self.$field as usize),*]
            }
        }
    };
}

axes! {
    /// Who the launcher is.
    caller: Caller {
        /// Whoever runs the tests.
        Itself,
        /// Root, with supplementary groups.
        RootWithGroups,
        /// An ordinary user.
        Ordinary,
        /// The test user with its groups.
        TestUser,
        /// An ordinary user that may change its ids.
        Capable,
        /// As a set-user-ID program of root's: the real user is ordinary.
        RealUser,
        /// As a set-group-ID program: the real group is ordinary.
        RealGroup,
        /// The real and effective user are ordinary, the saved one is root.
        SavedRoot,
        /// The effective and saved user are ordinary, the real one is root.
        RealRoot,
    }
    /// Which function starts the daemon.
    entry: Entrance {
        /// `start`
        Start,
        /// `execute`
        Execute,
        /// `start_checked`
        StartChecked,
        /// `execute_checked`
        ExecuteChecked,
    }
    /// `foreground`
    foreground: InForeground {
        /// Not called.
        Unset,
        /// False.
        No,
        /// True.
        Yes,
        /// What `supervised()` says.
        IfSupervised,
    }
    /// `pid_file`
    pid_file: PidFile {
        /// Not called.
        None,
        /// There is no such file.
        Fresh,
        /// The same, named from the working directory.
        Relative,
        /// A dead daemon's.
        Stale,
        /// Others can write to it.
        WorldWritable,
        /// A dead daemon's, which a prober looks at.
        Probed,
        /// In a sticky folder that others can write to.
        InStickyFolder,
        /// In a folder of the test user's.
        InTestUsersFolder,
        /// Locked by a process that is named in it.
        Held,
        /// Locked, and empty.
        HeldByStarting,
        /// A symbolic link to a file.
        Symlink,
        /// A folder.
        Folder,
        /// A FIFO.
        Fifo,
        /// A socket.
        Socket,
        /// A device.
        Device,
        /// Has another name.
        TwoLinks,
        /// Of another user.
        Foreign,
        /// Nobody may write to it.
        ReadOnly,
        /// In a folder that is not there.
        InMissingFolder,
        /// In a folder that others can write to.
        InWritableFolder,
        /// In a folder that its owner may not enter.
        InClosedFolder,
        /// An empty path.
        Empty,
        /// A name that is too long.
        TooLong,
        /// With a NUL in its path.
        Nul,
    }
    /// `chown_pid_file_user`
    chown_user: ChownUser {
        /// Not called.
        None,
        /// The caller.
        Own,
        /// The test user, by number.
        TestUser,
        /// An ordinary user, by name.
        Ordinary,
        /// There is none of this name.
        Unknown,
        /// The number that means 'unchanged'.
        Reserved,
        /// With a NUL in its name.
        Nul,
    }
    /// `chown_pid_file_group`
    chown_group: ChownGroup {
        /// Not called.
        None,
        /// The caller's.
        Own,
        /// A number without an entry.
        Number,
        /// An ordinary user's, by name.
        Ordinary,
        /// There is none of this name.
        Unknown,
        /// The number that means 'unchanged'.
        Reserved,
        /// With a NUL in its name.
        Nul,
    }
    /// `working_directory`
    working_directory: WorkingDirectory {
        /// Not called.
        None,
        /// A folder.
        Folder,
        /// The same, named from the launcher's.
        Relative,
        /// A symbolic link to it.
        Symlink,
        /// A folder in the jail.
        InJail,
        /// The jail.
        Jail,
        /// There is none.
        Missing,
        /// A file.
        File,
        /// A folder that its owner may not enter.
        Closed,
        /// With a NUL in its path.
        Nul,
    }
    /// `user`
    user: User {
        /// Not called.
        None,
        /// The caller, by number.
        Own,
        /// An ordinary user, by name.
        Ordinary,
        /// The test user with its groups, by name.
        TestUser,
        /// The same, by number.
        TestUserByNumber,
        /// Root, by name.
        Root,
        /// The same, by number.
        RootByNumber,
        /// A number without an entry.
        Number,
        /// There is none of this name.
        Unknown,
        /// The number that means 'unchanged'.
        Reserved,
        /// With a NUL in its name.
        Nul,
    }
    /// `group`
    group: Group {
        /// Not called.
        None,
        /// The caller's, by number.
        Own,
        /// An ordinary user's, by name.
        Ordinary,
        /// A number without an entry.
        Number,
        /// Root's.
        Root,
        /// There is none of this name.
        Unknown,
        /// The number that means 'unchanged'.
        Reserved,
        /// With a NUL in its name.
        Nul,
    }
    /// `supplementary_groups`
    supplementary_groups: Supplementary {
        /// Not called.
        Unset,
        /// `FromDatabase`
        FromDatabase,
        /// `Keep`
        Keep,
        /// `Only`, with none.
        None,
        /// `Only`, with a number and an ordinary user's.
        Others,
        /// The same, each of them twice.
        Duplicates,
        /// `Only`, with one of a name that there is not.
        Unknown,
        /// `Only`, with the number that means 'unchanged'.
        Reserved,
        /// `Only`, with one with a NUL in its name.
        Nul,
    }
    /// `no_new_privileges`
    no_new_privileges: NoNewPrivileges {
        /// Not called.
        Unset,
        /// Called.
        Set,
    }
    /// `close_inherited_fds`
    close_fds: CloseFds {
        /// Not called.
        Unset,
        /// But for none.
        All,
        /// But for one that may be open.
        Some,
    }
    /// `reset_signals`
    reset_signals: ResetSignals {
        /// Not called.
        Unset,
        /// Called.
        Reset,
    }
    /// `umask`
    umask: Umask {
        /// Not called.
        Unset,
        /// 0
        Open,
        /// 0o022
        Usual,
        /// 0o777
        Closed,
    }
    /// `chroot`
    chroot: Chroot {
        /// Not called.
        None,
        /// A folder that has nothing but folders.
        Jail,
        /// A symbolic link to it.
        Symlink,
        /// A folder, named from the daemon's working directory.
        Relative,
        /// The root directory.
        Root,
        /// There is none.
        Missing,
        /// A file.
        File,
        /// A folder that its owner may not enter.
        Closed,
        /// With a NUL in its path.
        Nul,
    }
    /// `stdin`
    stdin: Input {
        /// Not called.
        Unset,
        /// `devnull()`
        DevNull,
        /// `keep()`
        Keep,
        /// A file.
        File,
        /// A file whose descriptor is that of standard output.
        FromOutput,
        /// A file whose descriptor is that of standard input already.
        FromInput,
    }
    /// `stdout`
    stdout: Output {
        /// Not called.
        Unset,
        /// `devnull()`
        DevNull,
        /// `keep()`
        Keep,
        /// A file.
        File,
        /// A file whose descriptor is that of standard error.
        FromError,
    }
    /// `stderr`
    stderr: Errors {
        /// Not called.
        Unset,
        /// `devnull()`
        DevNull,
        /// `keep()`
        Keep,
        /// A file.
        File,
        /// A file whose descriptor is that of standard input.
        FromInput,
    }
    /// `startup_timeout`
    timeout: Timeout {
        /// Not called.
        None,
        /// Longer than any start takes.
        Ample,
    }
    /// `privileged_action` and `try_privileged_action`
    action: Action {
        /// Not called.
        None,
        /// Reports what it sees.
        Observes,
        /// May fail, but does not.
        Succeeds,
        /// Returns what tells of its drop.
        Witnesses,
        /// Makes a thread.
        MakesThread,
        /// Returns an error.
        Fails,
        /// Panics.
        Panics,
        /// Panics where it may return an error.
        PanicsInstead,
        /// Exits.
        Exits,
    }
    /// Whether the privileged action has captured what tells of its drop.
    capture: Capture {
        /// No.
        None,
        /// Yes.
        Witnessed,
    }
    /// `initialize`
    initialize: Initialize {
        /// Not called.
        None,
        /// Reports what it sees.
        Observes,
        /// Two of them.
        Chain,
        /// Returns an error.
        Fails,
        /// The second one of two returns an error.
        SecondFails,
        /// Panics.
        Panics,
        /// Is killed.
        Killed,
    }
    /// `deferred_readiness`
    readiness: Readiness {
        /// Not called.
        None,
        /// Ready.
        Ready,
        /// Ready, says another thread.
        ReadyInThread,
        /// Ready, after something else.
        ReadyLater,
        /// Ready, after a copy of the process has said so.
        ReadyAfterCopy,
        /// Failed.
        Fails,
        /// Dropped.
        Dropped,
        /// Dropped by a panic.
        DroppedByPanic,
        /// Kept until the time is up.
        Kept,
    }
    /// Whether the daemon takes the guard of its pid file, and ends cleanly.
    guard: Guard {
        /// No.
        None,
        /// Yes.
        Taken,
    }
    /// The launcher's working directory.
    directory: LaunchersDirectory {
        /// The case's folder.
        Inherited,
        /// Another one.
        Elsewhere,
        /// A folder in the jail.
        InJail,
    }
    /// Which of the standard streams are closed.
    closed: Closed {
        /// None.
        None,
        /// Standard input.
        Input,
        /// Standard output.
        Output,
        /// Standard error.
        Errors,
        /// All but standard error.
        InputAndOutput,
        /// All but standard output.
        InputAndErrors,
        /// All but standard input.
        OutputAndErrors,
        /// All three.
        All,
    }
    /// Which further descriptors the launcher has.
    descriptors: Descriptors {
        /// None.
        None,
        /// One that is kept across exec.
        Inheritable,
        /// One that is not, and the first number after the streams.
        CloseOnExec,
    }
    /// Which signals are blocked.
    blocked: BlockedSignals {
        /// None.
        None,
        /// SIGTERM and SIGUSR1.
        Some,
        /// All.
        All,
    }
    /// What is done on signals.
    dispositions: Dispositions {
        /// What a Rust program does.
        Usual,
        /// SIGCHLD is ignored.
        IgnoreChildren,
        /// A handler of SIGCHLD does nothing.
        HandleChildren,
        /// A handler reaps all children.
        ReapChildren,
        /// SIGTERM and SIGHUP are ignored, SIGPIPE is not, SIGUSR1 is handled.
        Others,
    }
    /// The launcher's umask.
    initial_umask: InitialUmask {
        /// As inherited.
        Inherited,
        /// 0
        Open,
        /// 0o777
        Closed,
    }
    /// The launcher's session.
    session: LaunchersSession {
        /// As inherited.
        Inherited,
        /// Leads one.
        Leader,
        /// Leads one that has a terminal.
        LeaderWithTerminal,
    }
    /// The launcher's threads.
    threads: Threads {
        /// One.
        One,
        /// There was another one, which has ended.
        Joined,
        /// There is another one.
        Two,
    }
    /// Limits.
    limits: Limits {
        /// As inherited.
        Inherited,
        /// Few descriptors.
        Descriptors,
        /// No processes.
        Processes,
    }
    /// To whom orphans fall.
    orphans: Orphans {
        /// To whoever they fell to before.
        Inherited,
        /// To the launcher.
        ToLauncher,
    }
    /// What the launcher has printed, without its having been written.
    unflushed: Unflushed {
        /// Nothing.
        None,
        /// Something, by std.
        Rust,
        /// Something, by the C library.
        C,
        /// Both.
        Both,
    }
    /// Whether the launcher has an atexit handler.
    at_exit: AtExit {
        /// No.
        None,
        /// Yes.
        Handler,
    }
    /// Whom a service manager waits for.
    notify: Notify {
        /// For nobody.
        Nobody,
        /// For the launcher.
        Launcher,
        /// For whoever has its socket.
        Anybody,
        /// For the launcher's parent.
        Parent,
    }
    /// How capabilities and user ids have to do with each other.
    secure_bits: SecureBits {
        /// As usual.
        Usual,
        /// Permitted ones are kept by who ceases to be root.
        KeepCapabilities,
        /// Not at all.
        NoFixup,
    }
    /// Capabilities that exec keeps.
    ambient: Ambient {
        /// None.
        None,
        /// Those to change ids.
        MayChangeIds,
    }
    /// A timer whose signal is handled.
    timer: Timer {
        /// None.
        None,
        /// Interrupts system calls now and then.
        Ticks,
    }
}

impl Default for Combination {
    /// The simplest one.
    fn default() -> Self {
        Self::from_places(&vec![0; AXES.len()])
    }
}

/// What is not the simplest, as `axis=Value`, which [`FromStr`] reads.
impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (axis, place) in AXES.iter().zip(self.places()) {
            if place > 0 {
                write!(f, "{separator}{}={}", axis.name, axis.values[place])?;
                separator = " ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl FromStr for Combination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut places = vec![0; AXES.len()];
        for word in text.split_ascii_whitespace() {
            let found = word.split_once('=').and_then(|(name, value)| {
                let axis = AXES.iter().position(|axis| axis.name == name)?;
                let place = AXES[axis].values.iter().position(|named| *named == value)?;
                Some((axis, place))
            });
            let (axis, place) = found.ok_or_else(|| format!("no such axis or value: {word}"))?;
            places[axis] = place;
        }
        Ok(Self::from_places(&places))
    }
}

/// The number of [`Descriptors::Inheritable`].
const INHERITED: i32 = 150;
/// A name that no database has.
const UNKNOWN: &str = "daemonize2-unknown";
/// A number that no database has.
const NUMBER: u32 = 4_000_000_001;
/// Groups that root has to lose.
const GROUPS: [u32; 4] = [0, 4, 7, 4711];
/// How long a daemon is waited for that does not get ready, in milliseconds:
/// longer than it takes to get that far on a machine with much to do.
const SHORT_TIMEOUT: u64 = 1200;
/// How long a prober looks at a pid file. Nothing waits for it: whether a start
/// comes upon it or after it, all that follows is the same.
const PROBE: Duration = Duration::from_millis(30);

/// What is below is asked about single values and about pairs: a
/// clause names two axes at the most, and says nothing unless both are chosen.
impl Choice {
    /// Why this cannot be set up here. This is the whole list of what is never
    /// tried.
    pub fn contradiction(&self, databases: &Databases) -> Option<&'static str> {
        let is_root = sys::effective_user() == 0;
        if !is_root && self.caller.is_some_and(|caller| caller != Caller::Itself) {
            return Some("only root can start as another");
        }
        let is_capable = self.caller == Some(Caller::Capable);
        if is_capable && !cfg!(target_os = "linux") {
            return Some("there are no capabilities");
        }
        let has_secure_bits = self
            .secure_bits
            .is_some_and(|bits| bits != SecureBits::Usual);
        let has_ambient = self.ambient == Some(Ambient::MayChangeIds);
        if (has_secure_bits || has_ambient) && !(cfg!(target_os = "linux") && is_root) {
            return Some("only Linux has them, and lets root have them");
        }
        let is_powerless = matches!(
            self.caller,
            Some(Caller::Ordinary | Caller::TestUser | Caller::RealGroup)
        );
        if has_ambient && is_powerless {
            return Some("what is ambient is permitted, too");
        }
        if self.orphans == Some(Orphans::ToLauncher) && !cfg!(target_os = "linux") {
            return Some("orphans fall to init alone");
        }
        if (is_capable || has_secure_bits || has_ambient) && self.threads == Some(Threads::Two) {
            // The C library ends a process whose threads cannot all change
            // their ids.
            return Some("capabilities are one thread's");
        }
        let makes_processes = matches!(
            self.readiness,
            Some(Readiness::ReadyInThread | Readiness::ReadyAfterCopy)
        ) || self.action == Some(Action::MakesThread);
        if makes_processes && self.limits == Some(Limits::Processes) {
            return Some("a thread and a copy are processes to that limit");
        }
        let is_of_others = matches!(
            self.pid_file,
            Some(PidFile::Foreign | PidFile::InTestUsersFolder)
        );
        if is_of_others && !is_root {
            return Some("only root can make a file of another user's");
        }
        let is_test_user = self.caller == Some(Caller::TestUser)
            || matches!(self.user, Some(User::TestUser | User::TestUserByNumber));
        if is_test_user && databases.user(TEST_USER).is_none() {
            return Some("there is no test user");
        }
        if self.stdin == Some(Input::FromInput) && self.stderr == Some(Errors::FromInput) {
            return Some("a descriptor has one owner");
        }
        let may_be_foreground = matches!(
            self.foreground,
            Some(InForeground::Yes | InForeground::IfSupervised)
        );
        let ends_unheard = matches!(
            self.readiness,
            Some(Readiness::Dropped | Readiness::DroppedByPanic | Readiness::Kept)
        ) || self.action == Some(Action::Exits)
            || self.initialize == Some(Initialize::Killed);
        if ends_unheard && may_be_foreground {
            return Some("nobody would be told");
        }
        if self.readiness == Some(Readiness::Kept) && self.timeout == Some(Timeout::Ample) {
            return Some("there is one timeout");
        }
        if self.timer == Some(Timer::Ticks) && may_be_foreground {
            return Some("reset, its signal would end the process");
        }
        let has_unflushed = self.unflushed.is_some_and(|text| text != Unflushed::None);
        let has_no_output = matches!(
            self.closed,
            Some(Closed::Output | Closed::InputAndOutput | Closed::OutputAndErrors | Closed::All)
        ) || self.stdin == Some(Input::FromOutput);
        if has_unflushed && has_no_output {
            return Some("what becomes of it is up to the C library");
        }
        if has_unflushed && self.threads == Some(Threads::Two) {
            return Some("then it is not flushed, and each process has it");
        }
        if self.capture == Some(Capture::Witnessed) && self.action == Some(Action::None) {
            return Some("there is nothing that captures");
        }
        if self.guard == Some(Guard::Taken) && self.pid_file == Some(PidFile::None) {
            return Some("there is nothing to guard");
        }
        None
    }

    /// Why this cannot succeed, whatever else is chosen. It also rules out
    /// what might succeed with a third value.
    pub fn obstacle(&self, databases: &Databases) -> Option<&'static str> {
        let in_any_case = self.fails_in_any_case();
        let of_itself = in_any_case.then_some("fails in any case");
        let of_itself = of_itself.or_else(|| self.obstacle_to_all());
        of_itself.or_else(|| match self.caller? {
            Caller::Itself if sys::effective_user() == 0 => self.obstacle_to_root(),
            Caller::RootWithGroups => self.obstacle_to_root(),
            Caller::RealUser if self.limits == Some(Limits::Processes) => {
                Some("the real user may have no processes")
            }
            Caller::RealUser => self.obstacle_to_root(),
            Caller::Capable => self.obstacle_to_others(true, false),
            Caller::Itself => self.obstacle_to_others(false, databases.own_groups_are_many()),
            Caller::TestUser => self.obstacle_to_others(false, true),
            Caller::Ordinary | Caller::RealGroup | Caller::SavedRoot | Caller::RealRoot => {
                self.obstacle_to_others(false, false)
            }
        })
    }

    /// Whether a single value does not succeed with anything; an owner for the
    /// pid file only if there is one.
    pub fn fails_in_any_case(&self) -> bool {
        matches!(
            self.pid_file,
            Some(
                PidFile::Held
                    | PidFile::HeldByStarting
                    | PidFile::Symlink
                    | PidFile::Folder
                    | PidFile::Fifo
                    | PidFile::Socket
                    | PidFile::Device
                    | PidFile::TwoLinks
                    | PidFile::InMissingFolder
                    | PidFile::Empty
                    | PidFile::TooLong
                    | PidFile::Nul
            )
        ) || matches!(
            self.chown_user,
            Some(ChownUser::Unknown | ChownUser::Reserved | ChownUser::Nul)
        ) || matches!(
            self.chown_group,
            Some(ChownGroup::Unknown | ChownGroup::Reserved | ChownGroup::Nul)
        ) || matches!(
            self.working_directory,
            Some(WorkingDirectory::Missing | WorkingDirectory::File | WorkingDirectory::Nul)
        ) || matches!(self.user, Some(User::Unknown | User::Reserved | User::Nul))
            || matches!(
                self.group,
                Some(Group::Unknown | Group::Reserved | Group::Nul)
            )
            || matches!(
                self.supplementary_groups,
                Some(Supplementary::Unknown | Supplementary::Reserved | Supplementary::Nul)
            )
            || matches!(
                self.chroot,
                Some(Chroot::Missing | Chroot::File | Chroot::Nul)
            )
            || matches!(
                self.action,
                Some(Action::Fails | Action::Panics | Action::PanicsInstead | Action::Exits)
            )
            || matches!(
                self.initialize,
                Some(
                    Initialize::Fails
                        | Initialize::SecondFails
                        | Initialize::Panics
                        | Initialize::Killed
                )
            )
            || matches!(
                self.readiness,
                Some(
                    Readiness::Fails
                        | Readiness::Dropped
                        | Readiness::DroppedByPanic
                        | Readiness::Kept
                )
            )
    }

    fn obstacle_to_all(&self) -> Option<&'static str> {
        if self.no_new_privileges == Some(NoNewPrivileges::Set) && !HAS_NO_NEW_PRIVILEGES {
            return Some("is not supported");
        }
        if cfg!(target_os = "linux")
            && self.no_new_privileges == Some(NoNewPrivileges::Set)
            && self.threads == Some(Threads::Two)
        {
            return Some("in the foreground, another thread would be without");
        }
        let makes_thread = self.action == Some(Action::MakesThread);
        let has_nothing_new = self.no_new_privileges == Some(NoNewPrivileges::Set);
        if cfg!(target_os = "linux") && makes_thread && has_nothing_new {
            return Some("the thread would be without");
        }
        let may_keep = self.caller == Some(Caller::Capable)
            || self
                .secure_bits
                .is_some_and(|bits| bits != SecureBits::Usual)
            || self.ambient == Some(Ambient::MayChangeIds);
        if makes_thread && may_keep {
            return Some("the thread may keep its capabilities");
        }
        let is_checked = matches!(
            self.entry,
            Some(Entrance::StartChecked | Entrance::ExecuteChecked)
        );
        if is_checked && self.threads == Some(Threads::Two) {
            return Some("is refused");
        }
        let is_test_users = self.pid_file == Some(PidFile::InTestUsersFolder);
        let is_other = |user| !matches!(user, User::TestUser | User::TestUserByNumber);
        if is_test_users && self.user.is_some_and(is_other) {
            // Nor anybody else but root, who refuses the folder.
            return Some("only the daemon's user may own the folder");
        }
        if self.user == Some(User::Number) && self.group == Some(Group::None) {
            return Some("the primary group is unknown");
        }
        None
    }

    fn obstacle_to_root(&self) -> Option<&'static str> {
        if self.pid_file == Some(PidFile::InWritableFolder) {
            return Some("root refuses the folder");
        }
        None
    }

    fn obstacle_to_others(&self, may_change_ids: bool, has_groups: bool) -> Option<&'static str> {
        let changes_ids = self
            .user
            .is_some_and(|user| !matches!(user, User::None | User::Own))
            || self
                .group
                .is_some_and(|group| !matches!(group, Group::None | Group::Own))
            || matches!(
                self.supplementary_groups,
                Some(Supplementary::Others | Supplementary::Duplicates)
            );
        let loses_groups = has_groups
            && (self.group == Some(Group::Own)
                || self.supplementary_groups == Some(Supplementary::None));
        if !may_change_ids && (changes_ids || loses_groups) {
            return Some("only root can change ids");
        }
        if self.chroot.is_some_and(|chroot| chroot != Chroot::None) {
            return Some("only root can change the root directory");
        }
        let gives_away = self
            .chown_user
            .is_some_and(|user| !matches!(user, ChownUser::None | ChownUser::Own))
            || self
                .chown_group
                .is_some_and(|group| !matches!(group, ChownGroup::None | ChownGroup::Own));
        if gives_away {
            return Some("only root can give a file away");
        }
        let is_closed = self.working_directory == Some(WorkingDirectory::Closed)
            || matches!(
                self.pid_file,
                Some(PidFile::InClosedFolder | PidFile::InTestUsersFolder)
            );
        if is_closed {
            return Some("only root goes everywhere");
        }
        if self.limits == Some(Limits::Processes) {
            return Some("an ordinary user may have no processes");
        }
        None
    }
}

/// A combination with its files, ready to start.
#[derive(Debug)]
pub struct Staged {
    /// Before the folder with its socket goes.
    manager: Option<FakeServiceManager>,
    /// The case.
    pub scenario: Scenario,
    /// Keeps the lock of [`PidFile::Held`].
    _holder: Option<File>,
}

impl Staged {
    /// What the service manager has been told, line by line.
    ///
    /// # Panics
    ///
    /// When there is no listening to it.
    pub fn notifications(&mut self) -> Vec<String> {
        self.manager
            .take()
            .map_or_else(Vec::new, FakeServiceManager::lines)
    }
}

impl Drop for Staged {
    /// Not even their owner could empty closed folders.
    fn drop(&mut self) {
        for name in ["closed", "run"] {
            let opened = Permissions::from_mode(0o755);
            // Most combinations have no such folder.
            let _ = fs::set_permissions(self.scenario.path(name), opened);
        }
    }
}

impl Combination {
    /// Whether such a start takes a while, in which nothing happens.
    pub fn waits(&self) -> bool {
        self.readiness == Readiness::Kept
    }

    /// Makes the files and the configuration, to be run by `binary`.
    ///
    /// # Panics
    ///
    /// When a file cannot be made.
    pub fn stage(&self, binary: &Path, databases: &Databases) -> Staged {
        let stage = Stage {
            combination: self,
            databases,
            scenario: Scenario::below(fast_folder(), binary),
            ids: self.ids(databases),
        };
        stage.set()
    }

    /// Who the launcher is to be, where that is not who runs the tests.
    fn ids(&self, databases: &Databases) -> Option<Ids> {
        let nobody = databases.user(NOBODY);
        let (user, group) = nobody.map_or((NUMBER, NUMBER), |entry| (entry.uid, entry.gid));
        let ordinary = |uid| Ids {
            uid,
            gid: [group; 3],
            groups: Some(Vec::new()),
        };
        match self.caller {
            Caller::Itself => None,
            Caller::RootWithGroups => Some(Ids {
                groups: Some(GROUPS.to_vec()),
                ..Ids::user(0, 0)
            }),
            Caller::Ordinary | Caller::Capable => Some(ordinary([user; 3])),
            Caller::TestUser => Some(Ids {
                groups: Some(TEST_USER_GROUPS.to_vec()),
                ..Ids::user(TEST_USER_ID, TEST_USER_ID)
            }),
            Caller::RealUser => Some(ordinary([user, 0, 0])),
            Caller::RealGroup => Some(Ids {
                gid: [group, GROUPS[3], GROUPS[3]],
                ..ordinary([user; 3])
            }),
            Caller::SavedRoot => Some(ordinary([user, user, 0])),
            Caller::RealRoot => Some(ordinary([0, user, user])),
        }
    }
}

/// Memory where there is such a folder: many small files are made.
fn fast_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        match tempfile::tempdir_in(memory) {
            Ok(_) => memory.to_owned(),
            Err(_) => std::env::temp_dir(),
        }
    })
}

struct Stage<'a> {
    combination: &'a Combination,
    databases: &'a Databases,
    scenario: Scenario,
    ids: Option<Ids>,
}

impl Stage<'_> {
    /// Nothing is left to defaults: what is new in a configuration does not
    /// compile before it is an axis, or named here or below as what is none.
    /// docs/verification.md lists those, too.
    fn set(mut self) -> Staged {
        self.make_places();
        let manager = self.listen();
        let (pid_file, holder) = self.make_pid_file();
        let combination = self.combination;
        let (privileged_action, try_privileged_action) = self.actions();
        self.scenario.config = Config {
            initial: self.initial_state(),
            options: self.options(pid_file),
            entry: match combination.entry {
                Entrance::Start => Entry::Start,
                Entrance::Execute => Entry::Execute,
                Entrance::StartChecked => Entry::StartChecked,
                Entrance::ExecuteChecked => Entry::ExecuteChecked,
            },
            privileged_action,
            try_privileged_action,
            initialize: self.initializations(),
            deferred_readiness: self.deferral(),
            guard_pid_file: combination.guard == Guard::Taken,
            witness_capture: combination.capture == Capture::Witnessed,
            failed_daemon_prints: false,
            end_failed_daemon: false,
            report_afterwards: true,
            start_again: false,
            // Else a daemon is ended by the harness, once it has been seen.
            life: match combination.readiness {
                // The library gives it a second to end by itself.
                Readiness::Dropped | Readiness::DroppedByPanic => Life::Exit(0),
                _ => Life::UntilTold,
            },
        };
        Staged {
            manager,
            scenario: self.scenario,
            _holder: holder,
        }
    }

    fn listen(&mut self) -> Option<FakeServiceManager> {
        if self.combination.notify == Notify::Nobody {
            return None;
        }
        let path = self.scenario.path("notify");
        self.scenario = self.scenario.clone().env("NOTIFY_SOCKET", &path);
        Some(FakeServiceManager::at(&path))
    }

    fn caller(&self) -> (u32, u32) {
        match &self.ids {
            Some(ids) => (ids.uid[1], ids.gid[1]),
            None => (sys::effective_user(), sys::group_ids().1),
        }
    }

    /// Gives a file to the caller, if that is another.
    fn give(&self, path: &Path) {
        if let Some(ids) = &self.ids {
            chown(path, Some(ids.uid[1]), Some(ids.gid[1])).expect("give a file away");
        }
    }

    fn folder(&self, name: impl AsRef<Path>, mode: u32) -> PathBuf {
        let path = self.scenario.path(name);
        fs::create_dir(&path).expect("create a folder");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set a folder's mode");
        self.give(&path);
        path
    }

    fn file(&self, path: &Path, mode: u32, content: &[u8]) -> File {
        let mut file = File::create_new(path).expect("create a file");
        file.write_all(content).expect("write a file");
        let permissions = Permissions::from_mode(mode);
        file.set_permissions(permissions)
            .expect("set a file's mode");
        self.give(path);
        file
    }

    /// The launcher's working directory.
    fn launchers_directory(&self) -> PathBuf {
        match self.combination.directory {
            LaunchersDirectory::Inherited => self.scenario.directory().to_owned(),
            LaunchersDirectory::Elsewhere => self.scenario.path("elsewhere"),
            LaunchersDirectory::InJail => self.scenario.path("jail/inside"),
        }
    }

    /// The daemon's, if there is such a folder.
    fn daemons_directory(&self) -> Option<PathBuf> {
        match self.combination.working_directory {
            WorkingDirectory::None => Some(self.launchers_directory()),
            WorkingDirectory::Folder | WorkingDirectory::Symlink => {
                Some(self.scenario.path("work"))
            }
            WorkingDirectory::Relative => Some(self.launchers_directory().join("work")),
            WorkingDirectory::InJail => Some(self.scenario.path("jail/inside")),
            WorkingDirectory::Jail => Some(self.scenario.path("jail")),
            WorkingDirectory::Closed => Some(self.scenario.path("closed")),
            WorkingDirectory::Missing | WorkingDirectory::File | WorkingDirectory::Nul => None,
        }
    }

    fn make_places(&self) {
        self.give(self.scenario.directory());
        let combination = self.combination;
        let (directory, chroot) = (combination.working_directory, combination.chroot);
        if combination.directory == LaunchersDirectory::Elsewhere {
            self.folder("elsewhere", 0o755);
        }
        if combination.directory == LaunchersDirectory::InJail
            || matches!(directory, WorkingDirectory::InJail | WorkingDirectory::Jail)
            || matches!(chroot, Chroot::Jail | Chroot::Symlink)
        {
            self.folder("jail", 0o755);
            self.folder("jail/inside", 0o755);
        }
        if chroot == Chroot::Symlink {
            symlink("jail", self.scenario.path("to-jail")).expect("make a link");
        }
        match directory {
            WorkingDirectory::Folder => drop(self.folder("work", 0o755)),
            WorkingDirectory::Relative => {
                self.folder(self.launchers_directory().join("work"), 0o755);
            }
            WorkingDirectory::Symlink => {
                let work = self.folder("work", 0o755);
                symlink(work, self.scenario.path("link")).expect("make a link");
            }
            _ => {}
        }
        let has_closed = directory == WorkingDirectory::Closed || chroot == Chroot::Closed;
        if has_closed {
            self.folder("closed", 0o755);
        }
        if let (Chroot::Relative, Some(folder)) = (chroot, self.daemons_directory()) {
            self.folder(folder.join("below"), 0o755);
        }
        if has_closed {
            let closed = Permissions::from_mode(0o000);
            fs::set_permissions(self.scenario.path("closed"), closed).expect("close a folder");
        }
        if directory == WorkingDirectory::File || chroot == Chroot::File {
            self.file(&self.scenario.path("file"), 0o644, b"");
        }
    }

    fn initial_state(&self) -> InitialState {
        let combination = self.combination;
        let path = self.scenario.path("inherited");
        if combination.descriptors != Descriptors::None {
            self.file(&path, 0o644, b"");
        }
        let has_printed = |by: Unflushed| [by, Unflushed::Both].contains(&combination.unflushed);
        InitialState {
            working_directory: match combination.directory {
                LaunchersDirectory::Inherited => None,
                LaunchersDirectory::Elsewhere | LaunchersDirectory::InJail => {
                    Some(self.launchers_directory().into())
                }
            },
            session: match combination.session {
                LaunchersSession::Inherited => Session::Inherited,
                LaunchersSession::Leader => Session::Leader,
                LaunchersSession::LeaderWithTerminal => Session::LeaderWithTerminal,
            },
            subreaper: combination.orphans == Orphans::ToLauncher,
            // Without the end of a line, which would have it written.
            unflushed_rust: has_printed(Unflushed::Rust).then(|| "std's text. ".to_owned()),
            unflushed_c: has_printed(Unflushed::C).then(|| "C's text. ".to_owned()),
            panic_hook: None,
            at_exit_handler: combination.at_exit == AtExit::Handler,
            extra_threads: u32::from(combination.threads == Threads::Two),
            // They take all the time there is: tests/held_up.rs.
            guard_takers: 0,
            joined_threads: u32::from(combination.threads == Threads::Joined),
            descriptors: match combination.descriptors {
                Descriptors::None => Vec::new(),
                Descriptors::Inheritable => vec![OpenDescriptor {
                    number: INHERITED,
                    path: path.into(),
                    close_on_exec: false,
                }],
                Descriptors::CloseOnExec => vec![OpenDescriptor {
                    number: 3,
                    path: path.into(),
                    close_on_exec: true,
                }],
            },
            // Without another thread that is all that matters: tests/surroundings.rs, as
            // for the null device, namespaces and sandboxes.
            event_queue: None,
            closed: match combination.closed {
                Closed::None => [false; 3],
                Closed::Input => [true, false, false],
                Closed::Output => [false, true, false],
                Closed::Errors => [false, false, true],
                Closed::InputAndOutput => [true, true, false],
                Closed::InputAndErrors => [true, false, true],
                Closed::OutputAndErrors => [false, true, true],
                Closed::All => [true; 3],
            },
            exec_pid: match combination.notify {
                Notify::Nobody | Notify::Anybody => None,
                Notify::Launcher => Some(ExecPid::Own),
                Notify::Parent => Some(ExecPid::Parents),
            },
            limit_descriptors: (combination.limits == Limits::Descriptors).then_some(32),
            limit_processes: (combination.limits == Limits::Processes).then_some(0),
            // It would bind the files to which the harness has the launcher
            // print, too: tests/failures.rs.
            limit_file_size: None,
            // Changes no outcome, but how often races happen: tests/races.rs.
            processor: None,
            umask: match combination.initial_umask {
                InitialUmask::Inherited => None,
                InitialUmask::Open => Some(0),
                InitialUmask::Closed => Some(0o777),
            },
            // Needs to mount, which takes long and is not allowed everywhere:
            // tests/privileges.rs, as for the namespace.
            user_database: None,
            null_device: None,
            secure_bits: match combination.secure_bits {
                SecureBits::Usual => None,
                SecureBits::KeepCapabilities => Some(sys::KEEP_CAPS),
                SecureBits::NoFixup => Some(sys::NO_SETUID_FIXUP),
            },
            ids: self.ids.clone(),
            capabilities: (combination.caller == Caller::Capable)
                .then_some(sys::CAP_SETGID | sys::CAP_SETUID),
            ambient_capabilities: (combination.ambient == Ambient::MayChangeIds)
                .then_some(sys::CAP_SETGID | sys::CAP_SETUID),
            user_namespace: None,
            dispositions: match combination.dispositions {
                Dispositions::Usual => Vec::new(),
                Dispositions::IgnoreChildren => vec![(libc::SIGCHLD, Disposition::Ignore)],
                Dispositions::HandleChildren => vec![(libc::SIGCHLD, Disposition::Handle)],
                Dispositions::ReapChildren => vec![(libc::SIGCHLD, Disposition::Reap)],
                // A handler that tells, or ends the process, is for signals
                // that a case sends: tests/signals.rs.
                Dispositions::Others => vec![
                    (libc::SIGTERM, Disposition::Ignore),
                    (libc::SIGHUP, Disposition::Ignore),
                    (libc::SIGPIPE, Disposition::Default),
                    (libc::SIGUSR1, Disposition::Handle),
                ],
            },
            interval_timer: (combination.timer == Timer::Ticks).then_some(1_000),
            blocked: match combination.blocked {
                BlockedSignals::None => Blocked::Inherited,
                BlockedSignals::Some => Blocked::These(vec![libc::SIGTERM, libc::SIGUSR1]),
                BlockedSignals::All => Blocked::All,
            },
            // Nothing could be reported any more: tests/descriptors.rs.
            children_namespace: None,
            parent_death_signal_at_fork: None,
            refused_calls: Vec::new(),
            free_descriptors: None,
        }
    }

    fn options(&self, pid_file: Option<PathBuf>) -> Options {
        let combination = self.combination;
        let (uid, gid) = self.caller();
        let primary = self.databases.primary_group_name(NOBODY);
        let primary = primary.unwrap_or(NOBODY).to_owned();
        let path = |name: &str| Some(Bytes::from(self.scenario.path(name)));
        let with_nul = Some(Bytes(b"with\0nul".to_vec()));
        let named_with_nul = Some(Identity::from("with\0nul"));
        let name = |name: &str| Some(Identity::from(name));
        let only = |one: Identity| {
            let ordinary = Identity::from(primary.as_str());
            Some(SupplementaryGroups::Only(vec![ordinary, one]))
        };
        Options {
            pid_file: pid_file.map(Bytes::from),
            chown_pid_file_user: match combination.chown_user {
                ChownUser::None => None,
                ChownUser::Own => Some(uid.into()),
                ChownUser::TestUser => Some(TEST_USER_ID.into()),
                ChownUser::Ordinary => name(NOBODY),
                ChownUser::Unknown => name(UNKNOWN),
                ChownUser::Reserved => Some(u32::MAX.into()),
                ChownUser::Nul => named_with_nul.clone(),
            },
            chown_pid_file_group: match combination.chown_group {
                ChownGroup::None => None,
                ChownGroup::Own => Some(gid.into()),
                ChownGroup::Number => Some(NUMBER.into()),
                ChownGroup::Ordinary => name(&primary),
                ChownGroup::Unknown => name(UNKNOWN),
                ChownGroup::Reserved => Some(u32::MAX.into()),
                ChownGroup::Nul => named_with_nul.clone(),
            },
            working_directory: match combination.working_directory {
                WorkingDirectory::None => None,
                WorkingDirectory::Folder => path("work"),
                WorkingDirectory::Relative => Some(Bytes::from("work")),
                WorkingDirectory::Symlink => path("link"),
                WorkingDirectory::InJail => path("jail/inside"),
                WorkingDirectory::Jail => path("jail"),
                WorkingDirectory::Missing => path("missing"),
                WorkingDirectory::File => path("file"),
                WorkingDirectory::Closed => path("closed"),
                WorkingDirectory::Nul => with_nul.clone(),
            },
            user: match combination.user {
                User::None => None,
                User::Own => Some(uid.into()),
                User::Ordinary => name(NOBODY),
                User::TestUser => name(TEST_USER),
                User::TestUserByNumber => Some(TEST_USER_ID.into()),
                User::Root => name("root"),
                User::RootByNumber => Some(0.into()),
                User::Number => Some(NUMBER.into()),
                User::Unknown => name(UNKNOWN),
                User::Reserved => Some(u32::MAX.into()),
                User::Nul => named_with_nul.clone(),
            },
            group: match combination.group {
                Group::None => None,
                Group::Own => Some(gid.into()),
                Group::Ordinary => name(&primary),
                Group::Number => Some(NUMBER.into()),
                Group::Root => Some(0.into()),
                Group::Unknown => name(UNKNOWN),
                Group::Reserved => Some(u32::MAX.into()),
                Group::Nul => named_with_nul,
            },
            umask: match combination.umask {
                Umask::Unset => None,
                Umask::Open => Some(0),
                Umask::Usual => Some(0o022),
                Umask::Closed => Some(0o777),
            },
            chroot: match combination.chroot {
                Chroot::None => None,
                Chroot::Jail => path("jail"),
                Chroot::Symlink => path("to-jail"),
                Chroot::Relative => Some(Bytes::from("below")),
                Chroot::Root => Some(Bytes::from("/")),
                Chroot::Missing => path("missing"),
                Chroot::File => path("file"),
                Chroot::Closed => path("closed"),
                Chroot::Nul => with_nul,
            },
            stdin: self.stdin(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            supplementary_groups: match combination.supplementary_groups {
                Supplementary::Unset => None,
                Supplementary::FromDatabase => Some(SupplementaryGroups::FromDatabase),
                Supplementary::Keep => Some(SupplementaryGroups::Keep),
                Supplementary::None => Some(SupplementaryGroups::Only(Vec::new())),
                Supplementary::Others => only(NUMBER.into()),
                Supplementary::Duplicates => {
                    let both = [Identity::from(primary.as_str()), NUMBER.into()];
                    let twice = [both.clone(), both].concat();
                    Some(SupplementaryGroups::Only(twice))
                }
                Supplementary::Unknown => only(UNKNOWN.into()),
                Supplementary::Reserved => only(u32::MAX.into()),
                Supplementary::Nul => only("with\0nul".into()),
            },
            no_new_privileges: combination.no_new_privileges == NoNewPrivileges::Set,
            close_inherited_fds: match combination.close_fds {
                CloseFds::Unset => None,
                CloseFds::All => Some(Vec::new()),
                CloseFds::Some => Some(vec![INHERITED, 4]),
            },
            reset_signals: combination.reset_signals == ResetSignals::Reset,
            startup_timeout: match combination.timeout {
                _ if combination.readiness == Readiness::Kept => Some(SHORT_TIMEOUT),
                Timeout::None => None,
                Timeout::Ample => Some(60_000),
            },
            foreground: match combination.foreground {
                InForeground::Unset => None,
                InForeground::No => Some(Foreground::No),
                InForeground::Yes => Some(Foreground::Yes),
                InForeground::IfSupervised => Some(Foreground::IfSupervised),
            },
        }
    }

    fn stdin(&self) -> Option<Stream> {
        let source = || self.source("stdin", Access::Read);
        match self.combination.stdin {
            Input::Unset => None,
            Input::DevNull => Some(Stream::DevNull),
            Input::Keep => Some(Stream::Keep),
            Input::File => Some(source().at(20)),
            Input::FromOutput => Some(source().at(1)),
            Input::FromInput => Some(source().at(0)),
        }
    }

    fn stdout(&self) -> Option<Stream> {
        let source = || self.source("stdout", Access::Append);
        match self.combination.stdout {
            Output::Unset => None,
            Output::DevNull => Some(Stream::DevNull),
            Output::Keep => Some(Stream::Keep),
            Output::File => Some(source().at(21)),
            Output::FromError => Some(source().at(2)),
        }
    }

    fn stderr(&self) -> Option<Stream> {
        let source = || self.source("stderr", Access::ReadWrite);
        match self.combination.stderr {
            Errors::Unset => None,
            Errors::DevNull => Some(Stream::DevNull),
            Errors::Keep => Some(Stream::Keep),
            Errors::File => Some(source().at(22)),
            Errors::FromInput => Some(source().at(0)),
        }
    }

    fn source(&self, name: &str, access: Access) -> Stream {
        let path = self.scenario.path(name);
        self.file(&path, 0o644, b"");
        Stream::file(&path, access)
    }

    // Steps that leave another process, thread, file or socket behind, or wait
    // for the harness, are the caller's business: tests/readiness.rs,
    // tests/failures.rs.

    fn actions(&self) -> (Option<Vec<Step>>, Option<Fallible>) {
        let panics = || vec![Step::Panic("the action's panic".to_owned())];
        match self.combination.action {
            Action::None => (None, None),
            Action::Observes => (Some(vec![Step::Observe, add("action")]), None),
            Action::Succeeds => (None, Some([add("action")].into())),
            Action::Witnesses => (Some(vec![Step::WitnessResult, add("action")]), None),
            Action::MakesThread => (Some(vec![Step::MakeThread]), None),
            Action::Fails => {
                let error = ErrorText::from("the action's error");
                (None, Some(error.into()))
            }
            Action::Panics => (Some(panics()), None),
            Action::PanicsInstead => (None, Some(panics().into())),
            Action::Exits => (Some(vec![Step::Exit(3)]), None),
        }
    }

    fn initializations(&self) -> Vec<Fallible> {
        let fails = || Fallible::from(ErrorText::from("the initialization's error"));
        let panics = Step::Panic("the initialization's panic".to_owned());
        match self.combination.initialize {
            Initialize::None => Vec::new(),
            Initialize::Observes => vec![[Step::Observe, add("first")].into()],
            Initialize::Chain => vec![[add("first")].into(), [add("second")].into()],
            Initialize::Fails => vec![fails()],
            Initialize::SecondFails => vec![[add("first")].into(), fails()],
            Initialize::Panics => vec![[panics].into()],
            Initialize::Killed => vec![[Step::KillItself(libc::SIGKILL)].into()],
        }
    }

    fn deferral(&self) -> Option<Deferral> {
        let readiness = self.combination.readiness;
        let usage = match readiness {
            Readiness::None => return None,
            Readiness::Ready
            | Readiness::ReadyInThread
            | Readiness::ReadyLater
            | Readiness::ReadyAfterCopy => ReadinessUse::Ready,
            Readiness::Fails => ReadinessUse::Fail("the daemon's reason".into()),
            Readiness::Dropped => ReadinessUse::Drop,
            Readiness::DroppedByPanic => ReadinessUse::DropByPanic("the daemon's panic".to_owned()),
            Readiness::Kept => ReadinessUse::Keep,
        };
        Some(Deferral {
            steps: match readiness {
                Readiness::ReadyLater => vec![Step::Observe],
                _ => Vec::new(),
            },
            in_copy: (readiness == Readiness::ReadyAfterCopy).then_some(ReadinessUse::Ready),
            // Takes rights that not every root has: tests/readiness.rs.
            copy_has_same_pid: false,
            // Has an outcome of its own: tests/readiness.rs.
            in_another: None,
            in_thread: readiness == Readiness::ReadyInThread,
            usage,
        })
    }

    /// Returns the path that is set, and the holder of the file's lock.
    fn make_pid_file(&self) -> (Option<PathBuf>, Option<File>) {
        let path = match self.combination.pid_file {
            PidFile::None => return (None, None),
            PidFile::Nul => PathBuf::from("with\0nul"),
            PidFile::Empty => PathBuf::new(),
            PidFile::Relative => PathBuf::from("d.pid"),
            PidFile::Device => PathBuf::from("/dev/null"),
            PidFile::InMissingFolder => self.scenario.path("missing/d.pid"),
            PidFile::InStickyFolder => self.folder("run", 0o1777).join("d.pid"),
            PidFile::InWritableFolder => self.folder("run", 0o777).join("d.pid"),
            PidFile::InClosedFolder => self.folder("run", 0).join("d.pid"),
            PidFile::InTestUsersFolder => {
                let folder = self.folder("run", 0o755);
                chown(&folder, Some(TEST_USER_ID), Some(TEST_USER_ID)).expect("give it away");
                folder.join("d.pid")
            }
            PidFile::TooLong => self.folder("run", 0o755).join("d.pid".repeat(100)),
            _ => self.folder("run", 0o755).join("d.pid"),
        };
        let mut holder = None;
        match self.combination.pid_file {
            PidFile::Stale => drop(self.file(&path, 0o640, b"999999\n")),
            PidFile::Probed => {
                let file = self.file(&path, 0o640, b"999999\n");
                sys::flock(file.as_fd(), libc::LOCK_SH).expect("lock a file");
                thread::spawn(move || {
                    thread::sleep(PROBE);
                    // Another thread's child may have a copy for a while.
                    let _ = sys::flock(file.as_fd(), libc::LOCK_UN);
                });
            }
            PidFile::WorldWritable => drop(self.file(&path, 0o666, b"")),
            PidFile::ReadOnly => drop(self.file(&path, 0o444, b"")),
            PidFile::Symlink => {
                let target = self.scenario.path("target");
                self.file(&target, 0o644, b"precious");
                symlink(&target, &path).expect("make a link");
            }
            PidFile::Folder => fs::create_dir(&path).expect("create a folder"),
            PidFile::Fifo => {
                sys::make_fifo(&path).expect("make a FIFO");
                self.give(&path);
            }
            PidFile::Socket => {
                drop(UnixListener::bind(&path).expect("make a socket"));
                self.give(&path);
            }
            PidFile::TwoLinks => {
                self.file(&path, 0o644, b"precious");
                fs::hard_link(&path, self.scenario.path("other")).expect("make a hard link");
            }
            PidFile::Foreign => {
                self.file(&path, 0o644, b"");
                chown(&path, Some(NUMBER), Some(NUMBER)).expect("give a file away");
            }
            PidFile::Held | PidFile::HeldByStarting => {
                let content = match self.combination.pid_file {
                    PidFile::Held => format!("{}\n", process::id()),
                    _ => String::new(),
                };
                let file = self.file(&path, 0o644, content.as_bytes());
                sys::flock(file.as_fd(), libc::LOCK_EX).expect("lock a file");
                holder = Some(file);
            }
            _ => {}
        }
        (Some(path), holder)
    }
}

fn add(text: &str) -> Step {
    Step::Add(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_combination_is_read_as_it_is_printed() {
        let last: Vec<usize> = AXES.iter().map(|axis| axis.values.len() - 1).collect();
        for combination in [Combination::default(), Combination::from_places(&last)] {
            assert_eq!(combination.to_string().parse(), Ok(combination));
        }
        assert!("pid_file=Nowhere".parse::<Combination>().is_err());
        assert!("pid_file".parse::<Combination>().is_err());
    }
}
