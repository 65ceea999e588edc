//! Signals: numbers and names, sets, the mask, dispositions.

use std::fmt;
use std::mem::{self, MaybeUninit};
use std::ptr;

use super::{Errno, cvt};

/// A signal by its number: see
/// [signal.h](https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/signal.h.html).
///
/// The constants are the signals that every Unix has. Any other signal of the system, such as a
/// real-time signal, can be made from its number. The `Display` form is the name, such as
/// `SIGTERM`, or the number, such as `signal 34`.
///
/// ```
/// use daemonize2::Signal;
///
/// assert_eq!(Signal::TERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::from(Signal::HUP.number()), Signal::HUP);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(libc::c_int);

macro_rules! signals {
    ($( $name:ident $constant:ident $meaning:literal; )*) => {
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($constant), "`: ", $meaning, ".")]
                pub const $name: Self = Self(libc::$constant);
            )*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( libc::$constant => Some(stringify!($constant)), )*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    ABRT SIGABRT "abort";
    ALRM SIGALRM "a timer has expired";
    BUS SIGBUS "access to memory that does not exist";
    CHLD SIGCHLD "a child has ended, stopped or continued";
    CONT SIGCONT "continue, if stopped";
    FPE SIGFPE "an arithmetic error";
    HUP SIGHUP "hang-up; most daemons reload their configuration";
    ILL SIGILL "an invalid instruction";
    INT SIGINT "interrupt, as by Ctrl-C";
    KILL SIGKILL "kill; no process can catch or ignore this";
    PIPE SIGPIPE "a write to a pipe without a reader";
    PROF SIGPROF "a profiling timer has expired";
    QUIT SIGQUIT "quit, as by Ctrl-\\; many daemons finish the work at hand first";
    SEGV SIGSEGV "an invalid access to memory";
    STOP SIGSTOP "stop; no process can catch or ignore this";
    SYS SIGSYS "an invalid system call";
    TERM SIGTERM "terminate";
    TRAP SIGTRAP "a trap of a debugger";
    TSTP SIGTSTP "stop, as by Ctrl-Z";
    TTIN SIGTTIN "a background process reads from the terminal";
    TTOU SIGTTOU "a background process writes to the terminal";
    URG SIGURG "urgent data at a socket";
    USR1 SIGUSR1 "for the program to define";
    USR2 SIGUSR2 "for the program to define";
    VTALRM SIGVTALRM "a timer of processor time has expired";
    WINCH SIGWINCH "the size of the terminal has changed";
    XCPU SIGXCPU "the limit of processor time is exceeded";
    XFSZ SIGXFSZ "the limit of the size of a file is exceeded";
}

impl Signal {
    /// Signal 0, which is checked, but not sent.
    pub(crate) const NONE: Self = Self(0);

    /// The number, as in signal(7).
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl From<i32> for Signal {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "signal {}", self.0),
        }
    }
}

/// A set of signals, mostly the mask of a thread.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// The set that `fill` makes.
    fn new(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> libc::c_int) -> Self {
        // Zeroed, since libc sets only the bits that it knows.
        let mut set = MaybeUninit::zeroed();
        // SAFETY: `set` is valid for writes of its size.
        unsafe { fill(set.as_mut_ptr()) };
        // SAFETY: `set` is plain data that is initialized to zeroes in any case.
        Self(unsafe { set.assume_init() })
    }

    /// The mask that blocks nothing. Async-signal-safe.
    pub(crate) fn empty() -> Self {
        Self::new(libc::sigemptyset)
    }

    /// The set of one signal. Async-signal-safe.
    pub(super) fn of(signal: libc::c_int) -> Self {
        let mut set = Self::empty();
        // SAFETY: the set is initialized, and the signal exists.
        unsafe { libc::sigaddset(&raw mut set.0, signal) };
        set
    }

    fn contains(&self, signal: libc::c_int) -> bool {
        // SAFETY: the set is initialized, and the signal exists.
        unsafe { libc::sigismember(&raw const self.0, signal) == 1 }
    }

    /// Makes this set the mask of the thread, which delivers pending signals at once.
    /// Async-signal-safe.
    pub(crate) fn restore(&self) {
        self.change(libc::SIG_SETMASK);
    }

    /// Adds these signals to the mask. Returns the former mask. Async-signal-safe.
    pub(super) fn block(&self) -> Self {
        self.change(libc::SIG_BLOCK)
    }

    /// Takes these signals out of the mask. Async-signal-safe.
    pub(super) fn unblock(&self) {
        self.change(libc::SIG_UNBLOCK);
    }

    /// pthread_sigmask(3), which fails only for an unknown `how`.
    fn change(&self, how: libc::c_int) -> Self {
        let mut before = Self::empty();
        // SAFETY: both sets are valid for the call.
        unsafe { libc::pthread_sigmask(how, &raw const self.0, &raw mut before.0) };
        before
    }
}

/// Blocks every signal that can be blocked. Returns the former mask. Async-signal-safe.
pub(crate) fn block_signals() -> SignalMask {
    SignalMask::new(libc::sigfillset).change(libc::SIG_SETMASK)
}

/// sigaction(2) with the default action for every signal but SIGPIPE. Async-signal-safe.
///
/// sigaction(2) itself says which numbers are signals. It rejects those that the C
/// library keeps for itself: on Linux the first two or three of the real-time signals.
pub(crate) fn reset_dispositions() -> Result<(), Errno> {
    change_dispositions(|signal, _| signal != libc::SIGPIPE)
}

/// Sets the default action for the signals that `is_reset` selects by number and present action.
fn change_dispositions(
    is_reset: impl Fn(libc::c_int, libc::sighandler_t) -> bool,
) -> Result<(), Errno> {
    // FreeBSD has the highest: `_SIG_MAXSIG` of sys/_sigset.h.
    const LARGEST: libc::c_int = 128;
    // SAFETY: all zeroes is a valid sigaction: no flags, an empty mask.
    let mut default: libc::sigaction = unsafe { mem::zeroed() };
    default.sa_sigaction = libc::SIG_DFL;

    let is_fixed = |signal| matches!(signal, libc::SIGKILL | libc::SIGSTOP);
    for signal in (1..=LARGEST).filter(|&signal| !is_fixed(signal)) {
        let mut present = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: without a new action nothing changes; `present` is valid
        // for writes of its size.
        let known = unsafe { libc::sigaction(signal, ptr::null(), present.as_mut_ptr()) };
        match cvt(known) {
            Ok(_) => {
                // SAFETY: the call has initialized it.
                let present = unsafe { present.assume_init() };
                if is_reset(signal, present.sa_sigaction) {
                    // SAFETY: the action is valid for the call and has no handler.
                    cvt(unsafe { libc::sigaction(signal, &raw const default, ptr::null_mut()) })?;
                }
            }
            Err(libc::EINVAL) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// sigaction(2) with the default action for every signal that is caught, and for SIGPIPE. execve(2)
/// does the former too, but a signal that arrives before it must run no handler of another thread's
/// program. Async-signal-safe.
pub(crate) fn reset_caught_signals() -> Result<(), Errno> {
    change_dispositions(|signal, present| {
        signal == libc::SIGPIPE || !matches!(present, libc::SIG_DFL | libc::SIG_IGN)
    })
}

/// Runs something that may change the action for SIGPIPE, and sets the former action again.
pub(crate) fn keep_action_of_broken_pipe<T>(run: impl FnOnce() -> T) -> T {
    let mut before = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action nothing changes; `before` is valid for writes of its size.
    unsafe { libc::sigaction(libc::SIGPIPE, ptr::null(), before.as_mut_ptr()) };
    let result = run();
    // SAFETY: the action is initialized, and was the action before. A handler in it still exists:
    // the program has not changed.
    unsafe { libc::sigaction(libc::SIGPIPE, before.as_ptr(), ptr::null_mut()) };
    result
}

/// Makes a write to a pipe that may have no reader. Without a reader the kernel not
/// only fails the write with `EPIPE`, but also sends SIGPIPE, which kills the process
/// unless it is ignored. This takes that signal back.
pub(crate) fn without_signal_of_broken_pipe<T>(write: impl FnOnce() -> T) -> T {
    let broken_pipe = SignalMask::of(libc::SIGPIPE);
    let before = broken_pipe.block();
    // A signal that was pending before belongs to the caller.
    let was_pending = is_broken_pipe_pending();
    let result = write();
    if !was_pending && is_broken_pipe_pending() {
        let mut taken = 0;
        // SAFETY: the set is initialized, and `taken` valid for a write. The signal
        // is blocked and pending, so that this does not wait.
        unsafe { libc::sigwait(&raw const broken_pipe.0, &raw mut taken) };
    }
    before.restore();
    result
}

fn is_broken_pipe_pending() -> bool {
    SignalMask::new(libc::sigpending).contains(libc::SIGPIPE)
}
