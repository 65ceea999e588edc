//! The process group of a running daemon: the daemon and its workers.
//!
//! A daemon that the library has forked is in the group and the session that the intermediate has
//! made. The intermediate has ended, and while the group has a member, the kernel gives its number
//! to no other process. In the foreground, the group may be that of a shell or a service manager.
//!
//! `PIDFD_SIGNAL_PROCESS_GROUP` of pidfd_send_signal(2) is of no use here: it signals the group
//! whose leader the descriptor refers to, and the leader has ended.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::control::{SIGKILL_WAIT, SIGTERM_GRACE, Target};
use super::holder::{Holder, SETTLING_TIME};
use super::{PAUSE, PidFile};
use crate::deadline::{Attempts, Deadline};
use crate::sys::{self, Pid, ProcessGroup, Signal, errno};

/// The pause between two lists of the members of a group, each of which reads all of /proc.
const LISTING_PAUSE: Duration = Duration::from_millis(50);

impl PidFile {
    /// Sends a signal to the process group of the running daemon: to the daemon, and to the
    /// workers that it has started and that have not changed their group. Returns false if no
    /// daemon is running.
    ///
    /// If the daemon has ended and its workers have not, this signals no process. If a worker has
    /// inherited the lock, the kernel names no holder, and this fails with
    /// [`InvalidData`](io::ErrorKind::InvalidData). Otherwise this returns false.
    ///
    /// # Errors
    ///
    /// - Those of [`signal`](Self::signal). kill(2) fails only if no member of the group may be
    ///   signalled.
    /// - [`InvalidInput`](io::ErrorKind::InvalidInput) if the calling process is a member of the
    ///   group.
    /// - [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the group is not the daemon's
    ///   own. The group is its own if the daemon leads it, or if its leader has ended and also led
    ///   the session. The latter holds for every daemon that the library has forked. A daemon in
    ///   the [foreground](crate::Daemonize::foreground) of a shell script is in the group of the
    ///   script. The group of process 1 is refused, too, because kill(2) takes its number for every
    ///   process.
    ///
    /// # Security
    ///
    /// The permission checks of [`signal`](Self::signal) apply. When root signals the group, and
    /// the file or the directory belongs to another user, each member must be a process of that
    /// user. On platforms other than Linux the library cannot list the members. Then this fails
    /// with `PermissionDenied`.
    ///
    /// The library looks up the group while the daemon is certain to exist. Between this look and
    /// the signal, the number of the group could become that of another group only if every member
    /// ended.
    pub fn signal_group(&self, signal: impl Into<Signal>) -> io::Result<bool> {
        let signal = signal.into();
        let Some(holder) = self.find_running()? else {
            return Ok(false);
        };
        match self.group_of(&holder)? {
            Some(group) => self.send_to_group(group, signal),
            None => Ok(false),
        }
    }

    /// Terminates the running daemon and its workers by SIGTERM to their process group. If a
    /// process of the group is left after `patience`, this sends SIGKILL to the group. Returns
    /// true when the lock is released and the group is empty, and false if no daemon was running.
    ///
    /// The file is empty afterwards, as it is after [`stop`](Self::stop).
    ///
    /// Zombies do not count as members, where the library can list the members: see the platform
    /// notes. If a daemon is starting, this waits until it is ready. If the daemon is still
    /// starting after `patience`, this does what [`stop`](Self::stop) does: the intermediate is a
    /// member of the group, and cleans up.
    ///
    /// For a daemon that has ended without its workers, see
    /// [`signal_group`](Self::signal_group).
    ///
    /// # Errors
    ///
    /// - Those of [`signal_group`](Self::signal_group).
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if a member is left after SIGKILL. The text lists
    ///   the members.
    /// - [`TimedOut`](io::ErrorKind::TimedOut) if the group is empty, but a process outside the
    ///   group has inherited the lock and still holds it after `patience`.
    ///
    /// # Platform notes
    ///
    /// Only on Linux, and only with /proc, can the library list the members of a group. Elsewhere a
    /// member counts until its parent or init(8) has reaped it, and an error does not list the
    /// members.
    pub fn stop_group(&self, patience: Duration) -> io::Result<bool> {
        let deadline = Deadline::after(patience);
        let holder = match self.await_daemon(deadline)? {
            None => return Ok(false),
            Some(Target::Running(holder)) => holder,
            Some(Target::Starting(holder)) => {
                return self.stop_process(&holder, Deadline::after(SIGTERM_GRACE));
            }
        };
        let Some(group) = self.group_of(&holder)? else {
            return Ok(false);
        };
        self.send_to_group(group, Signal::TERM)?;
        if !is_gone_by(&holder, group, deadline) {
            // Without the permission to signal the remaining members, a wait is of no use.
            let wait = match sys::kill_group(group, Signal::KILL) {
                Err(errno::EPERM) => Duration::ZERO,
                _ => SIGKILL_WAIT,
            };
            if !is_gone_by(&holder, group, Deadline::after(wait)) {
                let text = format!("{} is left after SIGKILL", description_of(group));
                return Err(self.error(io::ErrorKind::TimedOut, text));
            }
        }
        self.await_unlock(&holder, deadline)?;
        self.empty(&holder);
        Ok(true)
    }

    /// The group of the daemon, if it may be signalled. `None` if the daemon has ended meanwhile.
    fn group_of(&self, holder: &Holder) -> io::Result<Option<ProcessGroup>> {
        let Some(required_users) = self.required_users(holder)? else {
            return Ok(None);
        };
        if !self.has_users(holder.pid, "the daemon", &required_users)? {
            return Ok(None);
        }
        let group = ProcessGroup::of(holder.pid);
        let session_leader = sys::session_leader_of(holder.pid);
        // If the daemon has not ended by now, the pid was its own all the time.
        if holder.ends_by(Deadline::after(Duration::ZERO)) {
            return Ok(None);
        }
        let failed =
            |errno| self.failed("cannot look up the process group of the daemon of", errno);
        let (group, session_leader) = (group.map_err(failed)?, session_leader.map_err(failed)?);
        let refused = |text: String| Err(self.error(io::ErrorKind::PermissionDenied, text));
        let Some(group) = group else {
            return refused(String::from(
                "the process group of the daemon is that of process 1, or of another pid namespace",
            ));
        };
        let (id, leader) = (group.leader().number(), group.leader());
        if ProcessGroup::current() == Some(group) {
            let text = format!("this process is a member of the daemon's process group {id}");
            return Err(self.error(io::ErrorKind::InvalidInput, text));
        }
        if leader != holder.pid {
            // The intermediate writes the pid an instant before it ends.
            let mut attempts = Attempts::within(SETTLING_TIME);
            while session_leader == Some(leader) && exists(leader) && !attempts.are_over() {
                attempts.count();
                sys::sleep(PAUSE);
            }
            if exists(leader) {
                return refused(format!(
                    "the daemon is in process group {id}, whose leader is another process"
                ));
            }
            if session_leader != Some(leader) {
                return refused(format!(
                    "the daemon is in process group {id}, which belongs to the session of another \
                     process"
                ));
            }
        }
        self.check_members(group, &required_users)?;
        Ok(Some(group))
    }

    /// A member may have other user ids than the daemon: the daemon may have run a set-user-id
    /// program.
    fn check_members(&self, group: ProcessGroup, required_users: &[sys::Uid]) -> io::Result<()> {
        if required_users.is_empty() {
            return Ok(());
        }
        let members = sys::members_of(group).map_err(|_| {
            let text = "it or its directory belongs to another user than root, and the members of \
                        the daemon's process group cannot be listed";
            self.error(io::ErrorKind::PermissionDenied, text)
        })?;
        for member in members.iter().filter(|member| !member.has_ended) {
            let what = format!("process {} of its group", member.pid.number());
            self.has_users(member.pid, &what, required_users)?;
        }
        Ok(())
    }

    /// False if the group is empty.
    fn send_to_group(&self, group: ProcessGroup, signal: Signal) -> io::Result<bool> {
        let whom = || format!("{}, the group of the daemon of", description_of(group));
        self.check_sent(sys::kill_group(group, signal), signal, whom)
    }
}

/// Waits until the daemon has ended and its group is empty. False if the deadline passes first.
fn is_gone_by(holder: &Holder, group: ProcessGroup, deadline: Deadline) -> bool {
    if !holder.ends_by(deadline) {
        return false;
    }
    let mut next_listing = Deadline::after(Duration::ZERO);
    loop {
        if sys::kill_group(group, Signal::NONE) == Err(errno::ESRCH) {
            return true;
        }
        let is_late = deadline.has_passed();
        if is_late || next_listing.has_passed() {
            if has_only_zombies(group) {
                return true;
            }
            next_listing = Deadline::after(LISTING_PAUSE);
        }
        if is_late {
            return false;
        }
        sys::sleep(PAUSE);
    }
}

/// An empty list means that the members cannot be seen.
fn has_only_zombies(group: ProcessGroup) -> bool {
    sys::members_of(group)
        .is_ok_and(|members| !members.is_empty() && members.iter().all(|member| member.has_ended))
}

/// The group and its members, for a person.
fn description_of(group: ProcessGroup) -> String {
    let members = sys::members_of(group).unwrap_or_default().into_iter();
    let living = members.filter(|member| !member.has_ended);
    let pids: Vec<String> = living
        .map(|member| member.pid.number().to_string())
        .collect();
    let number = group.leader().number();
    match pids[..] {
        [] => format!("process group {number}"),
        _ => format!("process group {number} (processes {})", pids.join(", ")),
    }
}

/// Whether a process has this pid and has not ended.
fn exists(pid: Pid) -> bool {
    match sys::open_process(pid) {
        Some(process) => !sys::await_readable(process.as_fd(), Deadline::after(Duration::ZERO)),
        None => sys::kill(pid, Signal::NONE) != Err(errno::ESRCH),
    }
}
