//! Sets up the initial state of a case.

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::config::{
    Activation, Blocked, Bytes, ChildrenNamespace, Disposition, EventQueue, ExecPid, Ids,
    InitialState, OpenDescriptor, PanicHook, Session, SystemCall, UserNamespace,
    for_each_initial_field,
};
use crate::control::{self, Message};
use crate::sys::{self, Resource};
use crate::wire;

macro_rules! apply_each_field {
    (
        steps { $($(#[$doc:meta])* $field:ident: $type:ty => ($values:expr, $apply:expr),)* }
        last { $(#[$last_doc:meta])* $last:ident: $last_type:ty, }
    ) => {
        /// Applies `state`, except for [`leave_descriptors_free`].
        ///
        /// Applies the fields that need privileges before the ids, and the fields that would
        /// disturb the set-up (closed streams, limits, interruptions) as late as possible.
        ///
        /// # Errors
        ///
        /// That of the first field that cannot be applied, with the name of the field.
        pub fn apply(state: &InitialState) -> Result<(), String> {
            let InitialState { $($field,)* $last: _ } = state;
            $(apply_each(stringify!($field), $values, $apply)?;)*
            Ok(())
        }
    };
}

for_each_initial_field!(apply_each_field);

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
        // The library has to close them.
        let _ = taken.into_raw_fd();
    }
    Ok(())
}

fn apply_each<T>(
    field: &str,
    values: impl IntoIterator<Item = T>,
    apply: impl FnMut(T) -> io::Result<()>,
) -> Result<(), String> {
    let applied = values.into_iter().try_for_each(apply);
    applied.map_err(|error| format!("{field}: {error}"))
}

fn set_working_directory(path: &Bytes) -> io::Result<()> {
    std::env::set_current_dir(path.to_path())
}

fn print_with_std(text: &String) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())
}

fn refuse_calls(calls: &Vec<(SystemCall, i32)>) -> io::Result<()> {
    match calls.as_slice() {
        [] => Ok(()),
        calls => sys::refuse_calls(calls),
    }
}

fn set_session(session: Session) -> io::Result<()> {
    if session != Session::Inherited {
        sys::new_session()?;
    }
    if session == Session::LeaderWithTerminal {
        let [master, slave] = sys::acquire_terminal()?;
        sys::keep_at(master, control::TERMINAL, true)?;
        sys::keep_at(slave, control::TERMINAL_SLAVE, true)?;
    }
    Ok(())
}

fn set_panic_hook(hook: PanicHook) -> io::Result<()> {
    hook.set();
    Ok(())
}

fn close((number, is_closed): (i32, bool)) -> io::Result<()> {
    if is_closed {
        sys::close(number);
    }
    Ok(())
}

fn number_of(process: ExecPid) -> String {
    let pid = match process {
        ExecPid::Own => std::process::id(),
        ExecPid::Parents => std::os::unix::process::parent_id(),
    };
    pid.to_string()
}

fn set_exec_pid(exec_pid: ExecPid) -> io::Result<()> {
    sys::set_environment("SYSTEMD_EXEC_PID", &number_of(exec_pid));
    Ok(())
}

fn activate(activation: &Activation) -> io::Result<()> {
    for number in activation.numbers() {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        if listener.as_raw_fd() != number && sys::inherited(number).is_some() {
            return Err(io::Error::other(format!("{number} is open already")));
        }
        sys::keep_at(listener.into(), number, false)?;
    }
    let pid = number_of(activation.process);
    for (name, value) in [
        ("LISTEN_PID", pid.as_str()),
        // No pidfd has this inode.
        ("LISTEN_PIDFDID", "0"),
        ("LISTEN_FDS", &activation.sockets.len().to_string()),
        ("LISTEN_FDNAMES", &activation.sockets.join(":")),
        ("WATCHDOG_PID", &pid),
        ("WATCHDOG_USEC", "30000000"),
    ] {
        sys::set_environment(name, value);
    }
    Ok(())
}

/// The tester encodes the message beforehand. When the handlers run, the locals of the thread may
/// be gone, but the encoding needs them.
static AT_EXIT: OnceLock<Vec<u8>> = OnceLock::new();

fn register_at_exit((): ()) -> io::Result<()> {
    AT_EXIT.get_or_init(|| wire::encode(&Message::AtExit));
    sys::at_exit(send_at_exit)
}

extern "C" fn send_at_exit() {
    if let Some(message) = AT_EXIT.get() {
        control::send_from_handler(message);
    }
}

/// The encoded messages of the handlers, by signal. A handler cannot encode them.
static SIGNALLED: [OnceLock<Vec<u8>>; 65] = [const { OnceLock::new() }; 65];

fn signalled(signal: i32) -> Option<&'static OnceLock<Vec<u8>>> {
    SIGNALLED.get(usize::try_from(signal).ok()?)
}

fn set_disposition(&(signal, disposition): &(i32, Disposition)) -> io::Result<()> {
    if let Some(message) = signalled(signal) {
        message.get_or_init(|| wire::encode(&Message::Signalled(signal)));
    }
    sys::set_signal_listener(|signal| {
        if let Some(message) = signalled(signal).and_then(OnceLock::get) {
            control::send_from_handler(message);
        }
    });
    sys::set_disposition(signal, disposition)
}

fn start_interval_timer(micros: u32) -> io::Result<()> {
    sys::set_disposition(libc::SIGALRM, Disposition::Handle)?;
    sys::start_interval_timer(micros)
}

fn block(blocked: &Blocked) -> io::Result<()> {
    match blocked {
        Blocked::Inherited => Ok(()),
        Blocked::All => sys::block_signals(None),
        Blocked::These(signals) => sys::block_signals(Some(signals)),
    }
}

fn cover(place: &str, by: &Bytes) -> io::Result<()> {
    sys::leave_mount_namespace()?;
    sys::cover(&by.to_path(), Path::new(place))
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
        // std gives a thread an alternate stack for one handler. That handler must not interrupt
        // the handler of the C library that changes the ids of all threads.
        let result = sys::block_signals(None).and_then(|()| first());
        // The caller waits for the result.
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

fn take_guards() -> io::Result<()> {
    thread::Builder::new()
        .spawn(|| while daemonize2::PidFileGuard::take().is_none() {})
        .map(drop)
}

fn keep_busy() -> io::Result<()> {
    let work = || {
        for round in 0_u64.. {
            let text = round.to_string();
            sys::set_environment("TESTER_ROUND", &text);
            let mut output = io::stdout().lock();
            let _ = output.write_all(b"").and_then(|()| output.flush());
            drop(vec![text; 16]);
        }
    };
    thread::Builder::new().spawn(work).map(drop)
}

/// Forks children that live until the end of the case.
fn keep_forking() -> io::Result<()> {
    const MOST: usize = 1000;

    let work = || {
        for _ in 0..MOST {
            if let Ok(None) = sys::fork() {
                sys::pause();
            }
            thread::sleep(Duration::from_millis(1));
        }
    };
    thread::Builder::new().spawn(work).map(drop)
}

fn open_event_queue(queue: EventQueue) -> io::Result<()> {
    let opened = sys::open_event_queue(queue)?;
    let _ = opened.into_raw_fd();
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

fn set_ids(ids: &Ids, keeps_capabilities: bool) -> io::Result<()> {
    // The secure bit may be part of the initial state.
    let keeps_capabilities = keeps_capabilities && !sys::keeps_capabilities();
    if keeps_capabilities {
        sys::keep_capabilities(true)?;
    }
    // If the first group is the effective gid, a later change of the gid would replace it.
    sys::set_group_ids(ids.gid)?;
    if let Some(groups) = &ids.groups {
        let [_, effective, _] = ids.gid;
        sys::set_supplementary_groups(&sys::with_effective_gid(groups, effective))?;
    }
    sys::set_user_ids(ids.uid)?;
    if keeps_capabilities {
        sys::keep_capabilities(false)?;
    }
    Ok(())
}
