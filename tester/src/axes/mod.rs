//! The axes: every option of the builder, and every part of the launcher's initial state, with
//! the few values that a start is tried with.
//!
//! An axis file holds what the verifier knows of an option: its values and how each is set
//! (`axis!`), which values fail or cannot be combined ([`Axis`]), and what the option does to a
//! start (a method of [`Start`](crate::model::start::Start)). [`predict`](crate::predict) calls
//! these methods in the documented order of the steps.
//!
//! A new option costs a row in [`for_each_option!`](crate::config::for_each_option), an axis file,
//! a line in the list `axes!` below, and the call in [`predict`](crate::predict). A new field of
//! [`InitialState`] costs its application in [`initial`](crate::initial) instead of the row. An
//! option without an axis of its name does not compile, nor does a field of the initial state
//! that [`every_field_has_an_axis_or_a_test`] does not name.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::config::{Config, Identity, InitialState, for_each_option};
use crate::model::databases::Databases;

mod stage;

pub(crate) use entry::ADDRESS_FOR_PROGRAM;
pub(crate) use socket_activation::PID_OF_DAEMON;
pub(crate) use stage::Stage;
pub use stage::Staged;

/// Declares an axis: the enum of its values, and what each of them sets. A `fails` marks a value
/// with which no start succeeds. The first value is the simplest one: what a start is without
/// the axis.
macro_rules! axis {
    (
        $(#[$doc:meta])*
        $axis:ident |$stage:ident| $target:expr => {
            $($(#[$value_doc:meta])* $value:ident => $setting:expr $(, $mark:ident)?;)*
        }
    ) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            clippy::enum_variant_names,
            reason = "what a value sets describes it"
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $axis { $($(#[$value_doc])* $value,)* }

        impl $crate::axes::Values for $axis {
            const ALL: &[Self] = &[$(Self::$value),*];
            const NAMES: &[&str] = &[$(stringify!($value)),*];

            fn set(self, $stage: &mut $crate::axes::Stage<'_>) {
                $target = match self { $(Self::$value => $setting,)* };
            }

            fn always_fails(self) -> bool {
                match self { $(Self::$value => axis!(@fails $($mark)?),)* }
            }
        }
    };
    (@fails) => { false };
    (@fails fails) => { true };
}

/// What `axis!` makes of a table.
pub(crate) trait Values: Copy + 'static {
    /// All values, the simplest first.
    const ALL: &[Self];
    const NAMES: &[&str];

    /// Makes the files that the value needs, and sets it in the configuration.
    fn set(self, stage: &mut Stage<'_>);

    /// Whether no start with this value succeeds; an owner of the pid file fails only if there is
    /// a pid file.
    fn always_fails(self) -> bool;
}

/// What is known of a value together with others. Both questions are asked about single values
/// and about pairs: a clause names at most one other axis, and holds only if that is chosen.
pub(crate) trait Axis: Values {
    /// Why the value cannot be set up here with the other one. These clauses are the whole list of
    /// what is never tried.
    fn contradiction(self, _other: &Choice, _databases: &Databases) -> Option<&'static str> {
        None
    }

    /// Why a start with the value and the other one fails, for a caller with these rights if a
    /// caller is chosen. A clause may also rule out a start that a third value would let succeed.
    fn expected_failure(self, _other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        None
    }
}

/// The rights of a caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights {
    is_root: bool,
    may_change_ids: bool,
    may_bind_ports: bool,
    /// Whether it has supplementary groups, which only root can drop.
    has_groups: bool,
}

fn lacks_right_to_change_ids(rights: Option<Rights>) -> bool {
    rights.is_some_and(|rights| !rights.is_root && !rights.may_change_ids)
}

/// The name of an axis and of its values.
#[derive(Debug)]
pub struct AxisNames {
    /// The field's name.
    pub name: &'static str,
    /// The variants' names, the simplest first.
    pub values: &'static [&'static str],
}

/// Makes [`Combination`], [`Choice`] and [`AXES`] of all axes.
macro_rules! axes {
    ($($field:ident: $file:ident::$axis:ident,)*) => {
        /// One value of each axis.
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct Combination {
            $(
                #[doc = concat!("The axis `", stringify!($axis), "`.")]
                pub $field: $file::$axis,
            )*
        }

        /// Values of some axes.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Choice {
            $(
                #[doc = concat!("The axis `", stringify!($axis), "`.")]
                pub $field: Option<$file::$axis>,
            )*
        }

        /// All axes, in the order of [`Combination`]'s fields.
        pub const AXES: &[AxisNames] = &[$(
            AxisNames { name: stringify!($field), values: <$file::$axis as Values>::NAMES },
        )*];

        impl Combination {
            /// The value of each axis by its place.
            ///
            /// # Panics
            ///
            /// When there are fewer places than axes, or a place does not exist.
            pub fn from_places(places: &[usize]) -> Self {
                let mut places = places.iter();
                Self {
                    $($field: $file::$axis::ALL[*places.next().expect("one for each axis")],)*
                }
            }

            /// The places of the values on their axes.
            pub fn places(&self) -> Vec<usize> {
                vec![$(self.$field as usize),*]
            }

            /// Makes the files and the configuration of a case that runs `binary`.
            ///
            /// # Panics
            ///
            /// When a file cannot be made.
            pub fn stage(&self, binary: &Path, databases: &Databases) -> Staged {
                let mut stage = Stage::new(self, binary, databases);
                $(self.$field.set(&mut stage);)*
                stage.finish()
            }
        }

        impl Choice {
            /// These values, as axis and place on it.
            pub fn of(values: &[(usize, usize)]) -> Self {
                let mut places = (0..AXES.len()).map(|axis| {
                    let mut values = values.iter();
                    values.find_map(|&(other, place)| (other == axis).then_some(place))
                });
                Self {
                    $($field: places.next().flatten().map(|place| $file::$axis::ALL[place]),)*
                }
            }

            /// Why these values cannot be set up together.
            pub fn contradiction(&self, databases: &Databases) -> Option<&'static str> {
                $(
                    let reason = self.$field.and_then(|value| value.contradiction(self, databases));
                    if reason.is_some() {
                        return reason;
                    }
                )*
                None
            }

            /// Whether a single value fails, whatever else is chosen.
            pub fn always_fails(&self) -> bool {
                $(self.$field.is_some_and(Values::always_fails))||*
            }

            /// Why no start with these values succeeds.
            pub fn expected_failure(&self, databases: &Databases) -> Option<&'static str> {
                if self.always_fails() {
                    return Some("one value fails with any others");
                }
                let rights = self.caller.map(|caller| caller.rights(databases));
                $(
                    let reason = self.$field.and_then(|value| value.expected_failure(self, rights));
                    if reason.is_some() {
                        return reason;
                    }
                )*
                None
            }
        }
    };
}

// The builder's options.
mod caller;
mod chown_pid_file;
mod chroot;
mod close_inherited_fds;
mod deferred_readiness;
mod directories;
mod dumpable;
mod entry;
mod foreground;
mod group;
mod initialize;
pub(crate) mod keep_capabilities;
mod no_new_privileges;
mod on_started;
mod pid_file;
mod pid_file_mode;
mod privileged_action;
mod ready_payload;
mod reset_signals;
mod socket_activation;
mod startup_timeout;
mod streams;
mod supplementary_groups;
mod umask;
mod upgrade;
mod user;
mod user_environment;
mod working_directory;

// The launcher's initial state.
mod capabilities;
mod descriptors;
mod notify_socket;
mod output;
mod process;
mod refused_calls;
mod signals;

axes! {
    caller: caller::Caller,
    entry: entry::EntryPoint,
    foreground: foreground::InForeground,
    directories: directories::Directories,
    pid_file: pid_file::PidFile,
    upgrade: upgrade::Upgrade,
    pid_file_mode: pid_file_mode::PidFileMode,
    chown_pid_file: chown_pid_file::ChownPidFile,
    chown_pid_file_user: chown_pid_file::ChownUser,
    chown_pid_file_group: chown_pid_file::ChownGroup,
    working_directory: working_directory::WorkingDirectory,
    user: user::User,
    group: group::Group,
    supplementary_groups: supplementary_groups::Supplementary,
    keep_capabilities: keep_capabilities::KeepCapabilities,
    ambient_capabilities: keep_capabilities::AmbientCapabilities,
    no_new_privileges: no_new_privileges::NoNewPrivileges,
    dumpable: dumpable::Dumpable,
    user_environment: user_environment::UserEnvironment,
    socket_activation: socket_activation::SocketActivation,
    close_inherited_fds: close_inherited_fds::CloseFds,
    reset_signals: reset_signals::ResetSignals,
    umask: umask::Umask,
    chroot: chroot::Chroot,
    stdin: streams::Input,
    stdout: streams::Output,
    stderr: streams::Errors,
    startup_timeout: startup_timeout::Timeout,
    privileged_action: privileged_action::Action,
    capture: privileged_action::Capture,
    initialize: initialize::Initialize,
    borrows: initialize::Borrows,
    ready_payload: ready_payload::Payload,
    deferred_readiness: deferred_readiness::Readiness,
    on_started: on_started::OnStarted,
    guard: pid_file::Guard,
    launcher_directory: working_directory::LauncherDirectory,
    closed: descriptors::Closed,
    descriptors: descriptors::Descriptors,
    blocked: signals::BlockedSignals,
    dispositions: signals::Dispositions,
    initial_umask: umask::InitialUmask,
    session: process::LauncherSession,
    threads: process::Threads,
    limits: process::Limits,
    orphans: process::Orphans,
    unflushed: output::Unflushed,
    at_exit: output::AtExit,
    notify: notify_socket::Notify,
    activation: socket_activation::Activation,
    secure_bits: capabilities::SecureBits,
    ambient: capabilities::Ambient,
    timer: signals::Timer,
    refused_calls: refused_calls::RefusedCalls,
}

macro_rules! require_an_axis_of_each_option {
    (
        values { $($(#[$doc:meta])* $name:ident($builder:ident, $value:ident: $type:ty) => $call:expr,)* }
        flags { $($(#[$flag_doc:meta])* $flag:ident,)* }
    ) => {
        const _: fn(&Combination) = |combination| {
            $(let _ = combination.$name;)*
            $(let _ = combination.$flag;)*
        };
    };
}

for_each_option!(require_an_axis_of_each_option);

/// Names every other field of the configuration. The tests that stand beside a field set it
/// instead of an axis. docs/verification.md lists these fields, too.
fn every_field_has_an_axis_or_a_test(config: &Config) {
    let Config {
        initial,
        options: _,
        entry: _,
        // tests/spawn
        program: _,
        privileged_action: _,
        try_privileged_action: _,
        initialize: _,
        borrows: _,
        ready_payload: _,
        deferred_readiness: _,
        on_started: _,
        guard_pid_file: _,
        witness_capture: _,
        report_afterwards: _,
        life: _,
        // tests/start
        on_started_drop_panics: _,
        // tests/timeout, tests/errors
        start_again: _,
        failed_daemon_prints: _,
        end_failed_daemon: _,
    } = config;
    let InitialState {
        working_directory: _,
        session: _,
        subreaper: _,
        unflushed_rust: _,
        unflushed_c: _,
        at_exit_handler: _,
        extra_threads: _,
        joined_threads: _,
        descriptors: _,
        closed: _,
        exec_pid: _,
        activation: _,
        limit_descriptors: _,
        limit_processes: _,
        umask: _,
        secure_bits: _,
        ids: _,
        capabilities: _,
        ambient_capabilities: _,
        dispositions: _,
        interval_timer: _,
        blocked: _,
        refused_calls: _,
        // tests/errors
        panic_hook: _,
        // tests/limits: the limit would bind the files of the harness, too.
        limit_file_size: _,
        // tests/start: these threads take all the time there is.
        guard_takers: _,
        busy_threads: _,
        forking_thread: _,
        // tests/start, tests/streams, tests/errors
        event_queue: _,
        null_device: _,
        children_namespace: _,
        parent_death_signal_at_fork: _,
        // tests/start: the processor changes no outcome, but how often races happen.
        processor: _,
        // tests/privileges, tests/pid_file: mounts and namespaces take long, and are not allowed everywhere.
        user_database: _,
        user_namespace: _,
        // tests/privileges: a program that sets it keeps what it has.
        bounding_capabilities: _,
        // tests/limits: the launcher could not report any more.
        free_descriptors: _,
    } = initial;
}

impl Default for Combination {
    /// The simplest one.
    fn default() -> Self {
        Self::from_places(&vec![0; AXES.len()])
    }
}

/// The values that are not the simplest, as `axis=Value`, which [`FromStr`] reads.
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

/// A name that no database has.
const UNKNOWN: &str = "daemonize2-unknown";
/// An id that no database has.
const NUMBER: u32 = 4_000_000_001;

fn name(name: &str) -> Option<Identity> {
    Some(Identity::from(name))
}

fn id(id: u32) -> Option<Identity> {
    Some(Identity::from(id))
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
