//! The form of a row: a call, the ways in which it fails, and what each way
//! does to the start.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};

use tester::trace::{How, Role};

use crate::scenes::Scene;

/// Calls that are alike, and what a failure of one does to the start.
pub(crate) struct Row {
    pub(crate) process: Role,
    /// The name and arguments. A star at the end stands for any text.
    pub(crate) call: String,
    /// Which of the calls of that name, in the order of the process.
    pub(crate) which: Range<usize>,
    pub(crate) trials: Vec<Trial>,
    pub(crate) condition: Option<Condition>,
    /// From this call on, timing decides whether the process makes it.
    pub(crate) by_timing_from: usize,
    /// Outside the scene of the row, a trial of one call stands for all.
    pub(crate) is_alike: bool,
    /// The start that makes the calls.
    pub(crate) scene: Scene,
}

/// Why a scene may lack the calls of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Only other scenes make the call.
    OtherScene,
    /// The order of events among the processes decides.
    Timing,
    /// Only root makes the call.
    Root,
    /// The C library, the standard library or the machine decides.
    Platform,
}

/// A way to fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    pub(crate) how: How,
    /// Whether all later calls of that name fail, too.
    pub(crate) always: bool,
    pub(crate) effect: Effect,
}

/// What a failed call does to the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The start fails with this kind, and with the errno of the call if the kind has
    /// one; or with exactly this kind and errno, if both are named.
    Error(&'static str),
    /// The same, unless an earlier failure is the cause.
    ErrorOr(&'static str),
    /// The same as `Error`. A container may forbid unshare(2) to every process:
    /// there the library ignores each answer, and the start is as without a fault.
    UnlessForbidden(&'static str),
    /// The start ends as without the fault, for this reason.
    Harmless(&'static str),
    /// The start has failed before, and reports that first failure. The other
    /// processes clean up, too.
    Cleanup,
    /// The start ends as without the fault, but for these fields of the model.
    Except(&'static [&'static str]),
}

/// The ways on the left side of an entry: errnos, or a shorter answer.
pub(crate) struct Ways(Vec<(How, bool)>);

impl<const COUNT: usize> From<[i32; COUNT]> for Ways {
    fn from(errnos: [i32; COUNT]) -> Self {
        Self(errnos.map(|errno| (How::Errno(errno), false)).to_vec())
    }
}

impl From<How> for Ways {
    fn from(how: How) -> Self {
        Self(vec![(how, false)])
    }
}

/// This call and all later calls of that name fail.
pub(crate) struct Always(pub(crate) i32);

impl From<Always> for Ways {
    fn from(Always(errno): Always) -> Self {
        Self(vec![(How::Errno(errno), true)])
    }
}

impl Effect {
    /// The kind of error of the start, without an errno that the call brings.
    pub(crate) fn kind(self) -> Option<&'static str> {
        match self {
            Self::Error(kind) | Self::ErrorOr(kind) | Self::UnlessForbidden(kind) => Some(kind),
            Self::Harmless(_) | Self::Cleanup | Self::Except(_) => None,
        }
    }
}

impl Row {
    pub(crate) fn new(scene: Scene, process: Role, call: &str) -> Self {
        Self {
            process,
            call: call.replace("pid file", "work/run/daemon.new"),
            which: 0..usize::MAX,
            trials: Vec::new(),
            condition: None,
            by_timing_from: usize::MAX,
            is_alike: false,
            scene,
        }
    }

    pub(crate) fn which(mut self, which: impl RangeBounds<usize>) -> Self {
        if let Bound::Included(&first) = which.start_bound() {
            self.which.start = first;
        }
        if let Bound::Excluded(&end) = which.end_bound() {
            self.which.end = end;
        }
        self
    }

    pub(crate) fn on(mut self, ways: impl Into<Ways>, effect: Effect) -> Self {
        let ways = ways.into().0.into_iter();
        self.trials.extend(ways.map(|(how, always)| Trial {
            how,
            always,
            effect,
        }));
        self
    }

    /// A signal interrupts the call, and the library makes the call again.
    pub(crate) fn retried(self) -> Self {
        self.on(
            [libc::EINTR],
            Effect::Harmless("the library makes the call again"),
        )
    }

    /// Says why the row has no trial.
    pub(crate) fn never_fails(self, _reason: &'static str) -> Self {
        assert!(self.trials.is_empty());
        self
    }

    pub(crate) fn in_other_scenes(self) -> Self {
        self.made_if(Condition::OtherScene)
    }

    pub(crate) fn by_timing(self) -> Self {
        self.by_timing_from(0).made_if(Condition::Timing)
    }

    pub(crate) fn by_root(self) -> Self {
        self.made_if(Condition::Root)
    }

    /// Says what of the platform decides whether the process makes the call.
    pub(crate) fn platform(self, _reason: &'static str) -> Self {
        self.made_if(Condition::Platform)
    }

    fn made_if(mut self, condition: Condition) -> Self {
        self.condition = Some(condition);
        self
    }

    pub(crate) fn by_timing_from(mut self, number: usize) -> Self {
        self.by_timing_from = number;
        self
    }

    pub(crate) fn alike(mut self) -> Self {
        self.is_alike = true;
        self
    }

    pub(crate) fn covers(&self, process: Role, call: &str, number: usize) -> bool {
        let is_named = match self.call.strip_suffix('*') {
            Some(beginning) => call.starts_with(beginning),
            None => self.call == call,
        };
        is_named && self.process == process && self.which.contains(&number)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.which;
        write!(f, "{} {} [{start}..", self.process, self.call)?;
        match end {
            usize::MAX => f.write_str("]"),
            end => write!(f, "{end}]"),
        }
    }
}

/// Makes rows of a table. Each entry names scenes, processes and calls, and
/// stands for all their combinations:
///
/// ```text
/// [Failing, Dying]
/// Launcher "waitpid" [1..] .by_timing().retried() { [EPERM] => Cleanup };
/// ```
///
/// `pid file` in a call stands for the path of the pid file.
macro_rules! rows {
    ($(
        [$($scene:ident),+]
        $(
            $($process:ident)|+ $($call:literal)|+ $([$which:expr])?
            $(.$modifier:ident($($argument:expr),*))*
            $({ $($ways:expr => $effect:expr),* $(,)? })? ;
        )*
    )*) => {{
        let mut rows = Vec::new();
        $({
            let scenes = [$(Scene::$scene),+];
            $(for scene in scenes {
                for process in [$(Role::$process),+] {
                    for call in [$($call),+] {
                        rows.push(
                            Row::new(scene, process, call)
                                $(.which($which))?
                                $(.$modifier($($argument),*))*
                                $($(.on($ways, $effect))*)?
                        );
                    }
                }
            })*
        })*
        rows
    }};
}
