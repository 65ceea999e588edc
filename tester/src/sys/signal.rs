//! Signals, and a timer that raises one.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

#[cfg(any(target_os = "illumos", target_os = "solaris"))]
use libc::___errno as errno_location;
#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
use libc::__errno as errno_location;
#[cfg(any(target_os = "linux", target_os = "dragonfly"))]
use libc::__errno_location as errno_location;
#[cfg(any(target_os = "freebsd", target_vendor = "apple"))]
use libc::__error as errno_location;

use super::{check, exit_at_once};
use crate::config::Disposition;
use crate::report::SignalSet;

/// FreeBSD has the most signals.
const LARGEST: c_int = 128;

extern "C" fn do_nothing(_signal: c_int) {}

/// The interrupted code may not have read the errno of its last call yet.
fn keep_errno(action: impl FnOnce()) {
    // SAFETY: the function takes nothing and cannot fail.
    let errno = unsafe { errno_location() };
    // SAFETY: the variable belongs to the calling thread and lives as long as the thread.
    let found = unsafe { *errno };
    action();
    // SAFETY: as before.
    unsafe { *errno = found };
}

extern "C" fn reap(_signal: c_int) {
    keep_errno(|| {
        // SAFETY: a null status pointer asks for none; the call is
        // async-signal-safe, and ends where there is no more to reap.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    });
}

/// The function that the handlers of [`Disposition::Report`] and [`Disposition::ReportAndExit`] call.
static LISTENER: OnceLock<fn(c_int)> = OnceLock::new();

/// Sets the function that the telling handlers call. It makes only async-signal-safe calls.
pub fn set_signal_listener(listener: fn(c_int)) {
    LISTENER.get_or_init(|| listener);
}

extern "C" fn report(signal: c_int) {
    if let Some(listener) = LISTENER.get() {
        keep_errno(|| listener(signal));
    }
}

extern "C" fn report_and_exit(signal: c_int) {
    report(signal);
    exit_at_once(0);
}

/// Sets the disposition of `signal`. A handler does not restart interrupted system calls, so the
/// library gets EINTR.
pub fn set_disposition(signal: i32, disposition: Disposition) -> io::Result<()> {
    // SAFETY: all zeroes are a valid sigaction: no flags, no mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
        Disposition::Handle => do_nothing as extern "C" fn(c_int) as usize,
        Disposition::Reap => reap as extern "C" fn(c_int) as usize,
        Disposition::ReportAndExit => report_and_exit as extern "C" fn(c_int) as usize,
        Disposition::Report => report as extern "C" fn(c_int) as usize,
    };
    // SAFETY: the action is valid for the call, the handler forever.
    check(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) }).map(drop)
}

/// Whether `signal` is ignored and whether it has a handler; `None` if there
/// is no such signal.
pub fn disposition(signal: i32) -> Option<Disposition> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the pointer is valid for the call, which changes nothing.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    check(result).ok()?;
    // SAFETY: the call has filled it.
    let action = unsafe { action.assume_init() };
    Some(match action.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignore,
        _ => Disposition::Handle,
    })
}

/// Sets every ignored signal to its default, except SIGPIPE, which the runtime of Rust ignores.
pub fn stop_ignoring_signals() -> io::Result<()> {
    (1..=LARGEST)
        .filter(|&signal| signal != libc::SIGPIPE)
        .filter(|&signal| disposition(signal) == Some(Disposition::Ignore))
        .try_for_each(|signal| set_disposition(signal, Disposition::Default))
}

/// Blocks all signals, or just `signals`.
pub fn block_signals(signals: Option<&[i32]>) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is valid for the call.
    check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    match signals {
        // SAFETY: the pointer is valid for the call.
        None => check(unsafe { libc::sigfillset(set.as_mut_ptr()) }).map(drop)?,
        Some(signals) => {
            for &signal in signals {
                // SAFETY: the set was initialized above.
                check(unsafe { libc::sigaddset(set.as_mut_ptr(), signal) })?;
            }
        }
    }
    // SAFETY: the set was initialized above; the former one is not asked for.
    let result =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(result))
    }
}

/// The signal mask of the calling thread.
pub fn blocked_signals() -> SignalSet {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: no new mask is given; the pointer is valid for the call.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), set.as_mut_ptr()) };
    // SAFETY: it was initialized above.
    let set = unsafe { set.assume_init() };
    (1..=LARGEST)
        // SAFETY: the set is valid; a number that is no signal yields an error.
        .filter(|&signal| unsafe { libc::sigismember(&set, signal) } == 1)
        .fold(SignalSet::default(), SignalSet::with)
}

/// Raises SIGALRM every `micros` microseconds.
pub fn start_interval_timer(micros: u32) -> io::Result<()> {
    let seconds = i32::try_from(micros / 1_000_000).expect("below 4295");
    let rest = i32::try_from(micros % 1_000_000).expect("below a million");
    #[allow(clippy::useless_conversion, reason = "not useless where it is a long")]
    let interval = libc::timeval {
        tv_sec: seconds.into(),
        tv_usec: rest.into(),
    };
    let timer = libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: the timer is valid for the call; the former one is not asked
    // for.
    check(unsafe { setitimer(REAL_TIME, &timer, std::ptr::null_mut()) }).map(drop)
}

#[cfg(not(any(target_os = "illumos", target_os = "android")))]
const REAL_TIME: c_int = libc::ITIMER_REAL;
/// `ITIMER_REAL`, which libc lacks.
#[cfg(any(target_os = "illumos", target_os = "android"))]
const REAL_TIME: c_int = 0;

#[cfg(not(target_os = "illumos"))]
use libc::setitimer;
// libc lacks it.
#[cfg(target_os = "illumos")]
unsafe extern "C" {
    fn setitimer(
        which: c_int,
        value: *const libc::itimerval,
        former: *mut libc::itimerval,
    ) -> c_int;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_leaves_errno_to_the_interrupted_code() {
        // SAFETY: no descriptor has this number.
        unsafe { libc::close(-1) };
        keep_errno(|| {
            std::fs::metadata("/nowhere").expect_err("there is no such file");
        });
        let errno = io::Error::last_os_error().raw_os_error();
        assert_eq!(errno, Some(libc::EBADF));
    }
}
