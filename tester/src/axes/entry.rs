//! The entry point, the threads that it refuses, and the execution of a program.

use super::caller::Caller;
use super::capabilities::{Ambient, SecureBits};
use super::deferred_readiness::Readiness;
use super::foreground::InForeground;
use super::initialize::Initialize;
use super::keep_capabilities::{AmbientCapabilities, KeepCapabilities};
use super::pid_file::Guard;
use super::privileged_action::Action;
use super::process::{Limits, Threads};
use super::ready_payload::Payload;
use super::upgrade::Upgrade;
use super::{Axis, Choice, Rights};
use crate::config::{Bytes, Entry, Program, ProgramReadiness, Step};
use crate::model::databases::Databases;
use crate::model::failure::Failure;
use crate::model::start::{Opened, Start};
use crate::report::{Capabilities, SignalSet};

axis! {
    /// Which function starts the daemon, and by what a program is ready.
    EntryPoint |stage| (stage.config.entry, stage.config.program) => {
        Start => (Entry::Start, Program::default());
        Execute => (Entry::Execute, Program::default());
        StartChecked => (Entry::StartChecked, Program::default());
        ExecuteChecked => (Entry::ExecuteChecked, Program::default());
        Spawn => (Entry::Spawn, Program::default());
        SpawnNotifying => (Entry::Spawn, Program {
            readiness: ProgramReadiness::NotifySocket,
            steps: vec![Step::Notify(Bytes(b"READY=1".to_vec()))],
            ..Program::default()
        });
        SpawnWriting => (Entry::Spawn, Program {
            readiness: ProgramReadiness::NotificationFd(LINES),
            steps: vec![Step::Write(LINES, "\n".to_owned()), Step::Close(LINES)],
            ..Program::default()
        });
    }
}

/// Stands for the random address of a program's `NOTIFY_SOCKET` in a predicted environment.
pub(crate) const ADDRESS_FOR_PROGRAM: &[u8] = b"\0the address for the program";

/// The number of the descriptor to which the program writes a line.
const LINES: i32 = 9;

impl Axis for EntryPoint {
    fn contradiction(self, other: &Choice, _databases: &Databases) -> Option<&'static str> {
        if !matches!(
            self,
            Self::Spawn | Self::SpawnNotifying | Self::SpawnWriting
        ) {
            return None;
        }
        if self == Self::SpawnNotifying && !cfg!(target_os = "linux") {
            return Some("only Linux tells who has sent a message");
        }
        if other.limits.is_some_and(|of| of != Limits::Inherited) {
            return Some(
                "a program needs descriptors to report; tests/spawn/failure.rs has the other limit",
            );
        }
        let has_closures = other.privileged_action.is_some_and(|of| of != Action::None)
            || other.initialize.is_some_and(|of| of != Initialize::None)
            || other.ready_payload.is_some_and(|of| of != Payload::None)
            || other
                .deferred_readiness
                .is_some_and(|of| of != Readiness::None)
            || other.guard == Some(Guard::Taken);
        if has_closures {
            return Some("no code of the launcher runs in a program");
        }
        let is_refused = matches!(
            other.foreground,
            Some(InForeground::Yes | InForeground::IfSupervised)
        ) || other.upgrade == Some(Upgrade::Yes)
            || other
                .keep_capabilities
                .is_some_and(|of| of != KeepCapabilities::Unset);
        if is_refused {
            return Some("tests/spawn/options.rs has the options that are refused");
        }
        let has_root = other.chroot.is_none_or(|of| !of.is_entered());
        let keeps_ids = matches!(
            other.caller,
            None | Some(
                Caller::Itself
                    | Caller::RootWithGroups
                    | Caller::Ordinary
                    | Caller::TestUser
                    | Caller::ContainerRoot
            )
        );
        let is_usual = other
            .ambient_capabilities
            .is_none_or(|of| of == AmbientCapabilities::Unset)
            && other.secure_bits.is_none_or(|of| of == SecureBits::Usual)
            && other.ambient.is_none_or(|of| of == Ambient::None);
        match (has_root, keeps_ids && is_usual) {
            (false, _) => Some("there is no program in that root directory"),
            (_, false) => Some("tests/spawn/program.rs has what execve(2) does to these"),
            _ => None,
        }
    }

    fn expected_failure(self, other: &Choice, _rights: Option<Rights>) -> Option<&'static str> {
        let is_checked = matches!(self, Self::StartChecked | Self::ExecuteChecked);
        (is_checked && other.threads == Some(Threads::Two)).then_some("threads are refused")
    }
}

impl Start<'_> {
    /// Does what execve(2) does, and what the start-up code of the program does.
    pub(crate) fn execute_program(&mut self) {
        self.replace_kept_streams();
        let gained = self
            .credentials
            .capabilities
            .map(|sets| self.after_execve(sets));
        self.credentials.capabilities = gained;
        let process = &mut self.process;
        process.capabilities = gained;
        process.files_owner = process.files_owner.map(|_| self.credentials.uid.effective);
        // POSIX leaves it open whether an ignored SIGCHLD stays ignored: FreeBSD sets it to the
        // default (sys/kern/kern_sig.c, `execsigs`).
        let inherited = process
            .ignored_signals
            .map(|set| match cfg!(target_os = "freebsd") {
                true => set.without(libc::SIGCHLD),
                false => set,
            });
        // std ignores a broken pipe, and handles an overflow of the stack.
        process.ignored_signals = inherited.map(|set| set.with(libc::SIGPIPE));
        let handled = [libc::SIGSEGV, libc::SIGBUS];
        let handled = handled
            .into_iter()
            .fold(SignalSet::default(), SignalSet::with);
        process.caught_signals = process.caught_signals.map(|_| handled);
        let kept = self
            .options
            .close_inherited_fds
            .as_deref()
            .unwrap_or_default();
        let activated = |number| self.is_activated(number);
        let descriptors = self.process.descriptors.as_deref().map(|all| {
            let all = all.iter().cloned().filter_map(|mut found| {
                let is_passed_on = kept.contains(&found.number) || activated(found.number);
                let is_left = is_passed_on || found.close_on_exec != Some(true);
                found.close_on_exec = found.close_on_exec.map(|_| false);
                is_left.then_some(found)
            });
            all.collect()
        });
        self.process.descriptors = descriptors;
        let is_locked = self.opened.contains(&Opened::PidFile);
        self.opened.clear();
        if is_locked {
            self.opened.push(Opened::PidFileOfProgram);
        }
        if self.config.program.readiness == ProgramReadiness::NotifySocket {
            self.opened.push(Opened::NotifySocket);
            if let Some(environment) = &mut self.process.environment {
                let address = Bytes(ADDRESS_FOR_PROGRAM.to_vec());
                environment
                    .changeable
                    .insert(Bytes::from("NOTIFY_SOCKET"), address);
            }
        }
        // The program reports before the intermediate ends, or afterwards.
        self.parents.extend(self.adopters());
        self.observe("the program's report");
        self.settle();
    }

    /// capabilities(7), of a process whose real and effective ids are the same.
    fn after_execve(&self, sets: Capabilities) -> Capabilities {
        let permitted = match self.credentials.uid.effective {
            0 => sets.inheritable | sets.bounding,
            _ => sets.ambient,
        };
        let permitted = match self.process.no_new_privileges {
            Some(true) => permitted & sets.permitted,
            _ => permitted,
        };
        Capabilities {
            permitted,
            effective: permitted,
            ..sets
        }
    }

    pub(crate) fn count_threads(&self) -> Result<(), Failure> {
        let is_checked = matches!(
            self.config.entry,
            Entry::StartChecked | Entry::ExecuteChecked
        );
        let forks = !self.is_foreground();
        if forks && is_checked && self.config.initial.extra_threads > 0 {
            let number = usize::try_from(self.config.initial.extra_threads).unwrap_or(0) + 1;
            // A new thread has the name of the thread that makes it.
            let names = match cfg!(target_os = "linux") {
                true => format!(" ({})", vec!["tester"; number].join(", ")),
                false => String::new(),
            };
            let text = format!(
                "the process has more than one thread: {number}{names}; start the daemon first, \
                 and create threads and async runtimes afterwards (#[tokio::main] creates them \
                 before)"
            );
            return Err(Failure::new("MultiThreaded", None).with_reason(text));
        }
        Ok(())
    }
}
