//! Brings the launcher into the state that a case starts from.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use crate::config::{Blocked, Disposition, ExecPid, Ids, InitialState, OpenDescriptor, Session};
use crate::control::{self, Message};
use crate::sys::{self, Resource};
use crate::wire;

/// Applies `state`.
///
/// What needs privileges comes before the ids, and what would disturb the
/// set-up itself (closed streams, limits, interruptions) as late as possible.
///
/// # Errors
///
/// The first step that fails, by name.
pub fn apply(state: &InitialState) -> Result<(), String> {
    let InitialState {
        working_directory,
        session,
        subreaper,
        unflushed_rust,
        unflushed_c,
        at_exit_handler,
        extra_threads,
        joined_threads,
        descriptors,
        closed,
        exec_pid,
        limit_descriptors,
        limit_processes,
        limit_file_size,
        processor,
        umask,
        ids,
        capabilities,
        ambient_capabilities,
        dispositions,
        interval_timer,
        blocked,
    } = state;

    if let Some(path) = working_directory {
        step(
            "working directory",
            std::env::set_current_dir(path.to_path()),
        )?;
    }
    step("session", set_session(*session))?;
    if *subreaper {
        step("subreaper", sys::become_subreaper())?;
    }
    if let Some(text) = unflushed_rust {
        step("std's output", io::stdout().write_all(text.as_bytes()))?;
    }
    if let Some(text) = unflushed_c {
        step("C's output", sys::print_with_c(text))?;
    }
    if *at_exit_handler {
        AT_EXIT.get_or_init(|| wire::encode(&Message::AtExit));
        step("atexit handler", sys::at_exit(tell_of_exit))?;
    }
    for _ in 0..*extra_threads {
        step("thread", park_a_thread())?;
    }
    for _ in 0..*joined_threads {
        step("joined thread", join_a_thread())?;
    }
    for descriptor in descriptors {
        step("descriptor", open(descriptor))?;
    }
    for (number, _) in (0..).zip(closed).filter(|&(_, &closed)| closed) {
        sys::close(number);
    }
    if let Some(exec_pid) = exec_pid {
        let pid = match exec_pid {
            ExecPid::Own => std::process::id(),
            ExecPid::Parents => std::os::unix::process::parent_id(),
        };
        sys::set_environment("SYSTEMD_EXEC_PID", &pid.to_string());
    }
    if let Some(limit) = *limit_descriptors {
        step("RLIMIT_NOFILE", sys::limit(Resource::Descriptors, limit))?;
    }
    if let Some(limit) = *limit_processes {
        step("RLIMIT_NPROC", sys::limit(Resource::Processes, limit))?;
    }
    if let Some(limit) = *limit_file_size {
        step("RLIMIT_FSIZE", sys::limit(Resource::FileSize, limit))?;
    }
    if let Some(processor) = *processor {
        step("processor", sys::run_on(processor))?;
    }
    if let Some(mask) = *umask {
        step("umask", sys::set_umask(mask).map(drop))?;
    }
    set_identity(ids.as_ref(), *capabilities)?;
    if let Some(mask) = *ambient_capabilities {
        step("ambient", sys::set_ambient_capabilities(mask))?;
    }
    for &(signal, disposition) in dispositions {
        step("disposition", sys::set_disposition(signal, disposition))?;
    }
    if let Some(micros) = *interval_timer {
        step(
            "handler",
            sys::set_disposition(libc::SIGALRM, Disposition::Handle),
        )?;
        step("interval timer", sys::start_interval_timer(micros))?;
    }
    match blocked {
        Blocked::Inherited => {}
        Blocked::All => step("signal mask", sys::block_signals(None))?,
        Blocked::These(signals) => step("signal mask", sys::block_signals(Some(signals)))?,
    }
    Ok(())
}

fn step(name: &str, result: io::Result<()>) -> Result<(), String> {
    result.map_err(|error| format!("{name}: {error}"))
}

fn set_session(session: Session) -> io::Result<()> {
    if session != Session::Inherited {
        sys::new_session()?;
    }
    if session == Session::LeaderWithTerminal {
        let master = sys::acquire_terminal()?;
        keep_at(master, control::TERMINAL, true)?;
    }
    Ok(())
}

/// Moves a descriptor to its number, where it stays open for good.
pub(crate) fn keep_at(fd: OwnedFd, number: RawFd, close_on_exec: bool) -> io::Result<()> {
    let kept = sys::move_descriptor(fd, number, close_on_exec)?;
    let _ = kept.into_raw_fd();
    Ok(())
}

/// Made beforehand: when the handlers run, the thread's locals, which that
/// needs, may be gone.
static AT_EXIT: OnceLock<Vec<u8>> = OnceLock::new();

extern "C" fn tell_of_exit() {
    if let Some(message) = AT_EXIT.get() {
        control::tell_from_handler(message);
    }
}

fn park_a_thread() -> io::Result<()> {
    let thread = std::thread::Builder::new();
    thread.spawn(|| {
        loop {
            std::thread::park();
        }
    })?;
    Ok(())
}

fn join_a_thread() -> io::Result<()> {
    let thread = std::thread::Builder::new().spawn(|| ())?;
    thread.join().expect("nothing in it panics");
    Ok(())
}

fn open(descriptor: &OpenDescriptor) -> io::Result<()> {
    let file = File::open(descriptor.path.to_path())?;
    if file.as_raw_fd() != descriptor.number && sys::inherited(descriptor.number).is_some() {
        return Err(io::Error::other(format!(
            "{} is open already",
            descriptor.number
        )));
    }
    keep_at(file.into(), descriptor.number, descriptor.close_on_exec)
}

fn set_identity(ids: Option<&Ids>, capabilities: Option<u64>) -> Result<(), String> {
    if let Some(ids) = ids {
        if capabilities.is_some() {
            step("PR_SET_KEEPCAPS", sys::keep_capabilities(true))?;
        }
        if let Some(groups) = &ids.groups {
            step("groups", sys::set_supplementary_groups(groups))?;
        }
        step("group ids", sys::set_group_ids(ids.gid))?;
        step("user ids", sys::set_user_ids(ids.uid))?;
        if capabilities.is_some() {
            step("PR_SET_KEEPCAPS", sys::keep_capabilities(false))?;
        }
    }
    if let Some(mask) = capabilities {
        step("capabilities", sys::set_capabilities(mask))?;
    }
    Ok(())
}
