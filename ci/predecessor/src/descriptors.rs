//! Descriptors and signals that a daemon inherits.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use daemonize2::{Daemonize, Outcome};

use crate::Case;
use crate::files::with_pid_file;
use crate::harness::{Place, descriptors, status_line, tell};
use crate::sys;

pub const CASES: &[Case] = &[
    ("descriptors::without_the_option_all_are_inherited", folders),
    ("descriptors::thousands_are_closed", limits),
    ("descriptors::one_above_a_lowered_limit_is_closed", lowered),
    (
        "descriptors::in_the_foreground_all_numbers_may_be_taken",
        all_taken,
    ),
    ("signals::dispositions_pass_through", pass_through),
    ("signals::a_reset_reaches_the_real_time_signals", real_time),
    (
        "control::a_daemon_started_by_a_daemon_has_nothing_of_its_pid_file",
        daemon_of_daemon,
    ),
];

/// As a launcher inherits it.
fn open(path: &std::path::Path, lowest: i32) -> i32 {
    let file = File::open(path).expect("open");
    sys::duplicate(file.as_raw_fd(), lowest, false).expect("duplicate")
}

fn folders(place: &Place) -> String {
    let build = || {
        for number in [20, 21, 22] {
            open(&place.path(""), number);
        }
        Daemonize::new()
    };
    let run = place.launch(build, drop);
    let daemon = run.daemon().expect("a daemon");
    let open: Vec<_> = descriptors(daemon)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    format!("{run}; open in it: {open:?}")
}

fn limits(place: &Place) -> String {
    const STARTS: usize = 40;
    const LIMITS: [u64; 2] = [1024, 20_000];
    let mut fastest = [Duration::MAX; 2];
    for number in 0..STARTS * 2 {
        let build = || {
            sys::set_limit(libc::RLIMIT_NOFILE, LIMITS[number % 2]);
            Daemonize::new()
        };
        let run = place.launch(build, drop);
        place.end_all();
        place.forget();
        let time = &mut fastest[number % 2];
        *time = run.took.min(*time);
    }
    let [low, high] = fastest.map(|time| time.as_micros());
    format!("the fastest of {STARTS} launchers each: limit 1024: {low} us, limit 20000: {high} us")
}

fn lowered(place: &Place) -> String {
    let build = || {
        sys::set_limit(libc::RLIMIT_NOFILE, 1024);
        open(&place.path(""), 800);
        sys::set_limit(libc::RLIMIT_NOFILE, 64);
        Daemonize::new()
    };
    let run = place.launch(build, drop);
    let daemon = run.daemon().expect("a daemon");
    let open: Vec<_> = descriptors(daemon)
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    format!("{run}; open in it: {open:?}")
}

fn all_taken(place: &Place) -> String {
    let build = || {
        sys::set_limit(libc::RLIMIT_NOFILE, 64);
        let file = File::open(place.path("")).expect("open");
        while sys::duplicate(file.as_raw_fd(), 3, false).is_ok() {}
        std::mem::forget(file);
        Daemonize::new()
    };
    place.launch(build, drop).to_string()
}

/// The signals of a set in /proc/PID/status.
fn signals(pid: u32, line: &str) -> Vec<i32> {
    let set = status_line(&pid.to_string(), line);
    let set = u64::from_str_radix(&set, 16).unwrap_or(0);
    (1..=64)
        .filter(|signal| set >> (signal - 1) & 1 != 0)
        .collect()
}

fn pass_through(place: &Place) -> String {
    let build = || {
        sys::ignore(libc::SIGUSR1);
        sys::block(libc::SIGUSR2);
        Daemonize::new()
    };
    let run = place.launch(build, drop);
    let daemon = run.daemon().expect("a daemon");
    let is_ignored = signals(daemon, "SigIgn").contains(&libc::SIGUSR1);
    let is_blocked = signals(daemon, "SigBlk").contains(&libc::SIGUSR2);
    format!("{run}; SIGUSR1 ignored: {is_ignored}, SIGUSR2 blocked: {is_blocked}")
}

pub extern "C" fn tell_of_signal(_: i32) {
    tell("handled");
}

extern "C" fn nothing(_: i32) {}

fn real_time(place: &Place) -> String {
    let lines = [true, false].map(|is_ignored| {
        let build = || {
            for signal in sys::real_time_signals() {
                if is_ignored {
                    sys::ignore(signal);
                } else {
                    sys::handle(signal, nothing);
                }
            }
            Daemonize::new()
        };
        let run = place.launch(build, drop);
        let daemon = run.daemon().expect("a daemon");
        let line = if is_ignored { "SigIgn" } else { "SigCgt" };
        let found = signals(daemon, line);
        let count = found
            .iter()
            .filter(|&one| sys::real_time_signals().contains(one));
        let count = count.count();
        place.end_all();
        place.forget();
        let all = sys::real_time_signals().count();
        format!("{line} has {count} of {all} real-time signals")
    });
    lines.join(", ")
}

fn daemon_of_daemon(place: &Place) -> String {
    let (first, second) = (place.path("daemon.pid"), place.path("second.pid"));
    let live = |()| {
        // SAFETY: this program has one thread.
        match unsafe { Daemonize::new().pid_file(second).execute() } {
            Outcome::Parent(_) => {}
            Outcome::Child(_) => {
                tell("second");
                thread::sleep(Duration::from_secs(100));
            }
        }
    };
    let run = place.launch(with_pid_file, live);
    place.wait_until(Duration::from_secs(5), || run.teller("second").is_some());
    let daemon = run.daemon().expect("a daemon");
    let other = run.teller("second").expect("a second daemon");
    let holds = descriptors(other)
        .into_iter()
        .any(|(_, path)| path == first);
    let first_start = run.to_string();
    sys::kill(daemon, libc::SIGKILL);
    place.wait_until(Duration::from_secs(5), || place.has_ended(daemon));
    let file = File::open(&first).expect("open the pid file");
    let is_free = sys::flock(&file, libc::LOCK_EX | libc::LOCK_NB).is_ok();
    drop(file);
    let again = place.launch(with_pid_file, drop);
    let _ = fs::remove_file(first);
    format!(
        "{first_start}; the second daemon has the first one's pid file open: {holds}; when the first has \
         ended, its lock is free: {is_free}; a new start: {again}"
    )
}
