//! Sets up the initial state of a case.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use crate::config::{
    Blocked, ChildrenNamespace, Disposition, ExecPid, Ids, InitialState, OpenDescriptor, Session,
    UserNamespace,
};
use crate::control::{self, Message};
use crate::sys::{self, Resource};
use crate::wire;

/// Applies `state`.
///
/// What needs privileges is set before the ids. What would disturb the set-up (closed streams,
/// limits, interruptions) is set as late as possible.
///
/// # Errors
///
/// The first step that fails, with its name.
pub fn apply(state: &InitialState) -> Result<(), String> {
    let InitialState {
        working_directory,
        session,
        subreaper,
        unflushed_rust,
        unflushed_c,
        panic_hook,
        at_exit_handler,
        extra_threads,
        guard_takers,
        joined_threads,
        descriptors,
        event_queue,
        closed,
        exec_pid,
        limit_descriptors,
        limit_processes,
        limit_file_size,
        processor,
        umask,
        user_database,
        null_device,
        secure_bits,
        ids,
        capabilities,
        ambient_capabilities,
        user_namespace,
        dispositions,
        interval_timer,
        blocked,
        children_namespace,
        parent_death_signal_at_fork,
        refused_calls,
        free_descriptors: _,
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
    if let Some(hook) = panic_hook {
        hook.set();
    }
    if *at_exit_handler {
        AT_EXIT.get_or_init(|| wire::encode(&Message::AtExit));
        step("atexit handler", sys::at_exit(send_at_exit))?;
    }
    for _ in 0..*extra_threads {
        step("thread", park_a_thread(|| Ok(())))?;
    }
    for _ in 0..*guard_takers {
        thread::spawn(|| while daemonize2::PidFileGuard::take().is_none() {});
    }
    for _ in 0..*joined_threads {
        step("joined thread", join_a_thread())?;
    }
    for descriptor in descriptors {
        step("descriptor", open(descriptor))?;
    }
    if let Some(queue) = *event_queue {
        let opened = sys::open_event_queue(queue).map(IntoRawFd::into_raw_fd);
        step("event queue", opened.map(drop))?;
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
    if let Some(directory) = user_database {
        step("user database", cover_user_database(&directory.to_path()))?;
    }
    if let Some(file) = null_device {
        step("null device", cover_null_device(&file.to_path()))?;
    }
    if let Some(bits) = *secure_bits {
        step("secure bits", sys::set_secure_bits(bits))?;
    }
    set_identity(ids.as_ref(), *capabilities)?;
    if let Some(mask) = *ambient_capabilities {
        step("ambient", sys::set_ambient_capabilities(mask))?;
    }
    if let Some(namespace) = user_namespace {
        step("user namespace", enter_user_namespace(namespace))?;
    }
    for &(signal, disposition) in dispositions {
        prepare_message(signal);
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
    if let Some(namespace) = *children_namespace {
        step("pid namespace", leave_pid_namespace(namespace))?;
    }
    if let Some(signal) = *parent_death_signal_at_fork {
        let registered = sys::ask_for_parent_death_signal_at_fork(signal);
        step("parent-death signal", registered)?;
    }
    if !refused_calls.is_empty() {
        step("sandbox", sys::refuse_calls(refused_calls))?;
    }
    Ok(())
}

/// Takes the numbers of all descriptors below the limit, except for this number of them.
///
/// # Errors
///
/// Those of open(2) and dup(2), except for the lack of numbers.
pub fn leave_descriptors_free(free: u32) -> io::Result<()> {
    let mut taken = vec![OwnedFd::from(File::open("/dev/null")?)];
    while let Ok(another) = taken[0].try_clone() {
        taken.push(another);
    }
    let last = taken.len().saturating_sub(free as usize);
    for taken in taken.drain(..last) {
        // The library is to close them.
        let _ = taken.into_raw_fd();
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
        sys::keep_at(master, control::TERMINAL, true)?;
    }
    Ok(())
}

/// The message is made beforehand. When the handlers run, the locals of the thread, which an
/// encoding needs, may be gone.
static AT_EXIT: OnceLock<Vec<u8>> = OnceLock::new();

extern "C" fn send_at_exit() {
    if let Some(message) = AT_EXIT.get() {
        control::send_from_handler(message);
    }
}

/// The messages of the handlers, by signal. A handler cannot make them.
static SIGNALLED: [OnceLock<Vec<u8>>; 65] = [const { OnceLock::new() }; 65];

fn signalled(signal: i32) -> Option<&'static OnceLock<Vec<u8>>> {
    SIGNALLED.get(usize::try_from(signal).ok()?)
}

fn prepare_message(signal: i32) {
    if let Some(message) = signalled(signal) {
        message.get_or_init(|| wire::encode(&Message::Signalled(signal)));
    }
    sys::set_signal_listener(|signal| {
        if let Some(message) = signalled(signal).and_then(OnceLock::get) {
            control::send_from_handler(message);
        }
    });
}

fn cover_user_database(directory: &Path) -> io::Result<()> {
    sys::leave_mount_namespace()?;
    sys::cover(directory, Path::new("/etc"))
}

fn cover_null_device(file: &Path) -> io::Result<()> {
    sys::leave_mount_namespace()?;
    sys::cover(file, Path::new("/dev/null"))
}

fn leave_pid_namespace(namespace: ChildrenNamespace) -> io::Result<()> {
    sys::leave_pid_namespace_for_children()?;
    if namespace == ChildrenNamespace::WithFirst {
        let (ours, theirs) = sys::socket_pair()?;
        if sys::fork()?.is_none() {
            drop(ours);
            // The call returns when the launcher, and every process with a copy of its end, has
            // ended.
            let _ = sys::receive(theirs.as_fd(), &mut [0; 1]);
            sys::exit_at_once(0);
        }
        let _ = ours.into_raw_fd();
    }
    Ok(())
}

/// A process outside of the namespace writes the maps: a process inside may map only its own id.
fn enter_user_namespace(namespace: &UserNamespace) -> io::Result<()> {
    let launcher = std::process::id();
    let (ours, writers) = sys::socket_pair()?;
    let Some(writer) = sys::fork()? else {
        drop(ours);
        let mut word = [0; 1];
        let written = match sys::receive(writers.as_fd(), &mut word) {
            Ok(1) => write_maps(launcher, namespace),
            // The launcher reports the failure.
            Ok(_) | Err(_) => Ok(()),
        };
        let errno = written.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
        let _ = sys::send(writers.as_fd(), &errno.to_le_bytes());
        sys::exit_at_once(0);
    };
    drop(writers);
    // Otherwise, root owns its files in /proc after the change of ids.
    sys::become_dumpable()?;
    sys::leave_user_namespace()?;
    sys::send(ours.as_fd(), &[1])?;
    let mut errno = [0; 4];
    let received = sys::receive(ours.as_fd(), &mut errno)?;
    sys::wait_for_child(writer)?;
    match (received, i32::from_le_bytes(errno)) {
        (4, 0) => Ok(()),
        (4, errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn write_maps(pid: u32, namespace: &UserNamespace) -> io::Result<()> {
    let write = |file: &str, text: &str| std::fs::write(format!("/proc/{pid}/{file}"), text);
    let map = |ranges: &[[u32; 3]]| -> String {
        ranges
            .iter()
            .map(|[inside, outside, count]| format!("{inside} {outside} {count}\n"))
            .collect()
    };
    if namespace.denies_setgroups {
        write("setgroups", "deny")?;
    }
    write("uid_map", &map(&namespace.users))?;
    write("gid_map", &map(&namespace.groups))
}

/// Makes a thread that stays. Returns when the thread has called `first`.
pub(crate) fn park_a_thread(first: fn() -> io::Result<()>) -> io::Result<()> {
    let (done, is_done) = std::sync::mpsc::channel();
    let thread = thread::Builder::new();
    thread.spawn(move || {
        // std gives a thread an alternate stack for one handler. It must not interrupt the handler
        // of the C library that changes the ids of all threads.
        let result = sys::block_signals(None).and_then(|()| first());
        // The caller waits for it.
        let _ = done.send(result);
        loop {
            thread::park();
        }
    })?;
    is_done.recv().expect("the thread sends before it parks")
}

fn join_a_thread() -> io::Result<()> {
    let thread = thread::Builder::new().spawn(|| ())?;
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
    sys::keep_at(file.into(), descriptor.number, descriptor.close_on_exec)
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
