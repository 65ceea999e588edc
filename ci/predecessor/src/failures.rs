//! Failures and deaths during the start, and signals.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use daemonize2::{Daemonize, Stdio};

use crate::Case;
use crate::files::with_pid_file;
use crate::harness::{self, Place, content, look_at, tell};
use crate::sys;

pub const CASES: &[Case] = &[
    ("failures::an_unknown_user_or_group_is_told", unknown_names),
    ("failures::a_missing_root_is_told", missing_root),
    (
        "failures::a_pid_file_that_cannot_be_opened_is_told",
        missing_folder,
    ),
    (
        "failures::a_missing_working_directory_is_told",
        missing_working_directory,
    ),
    ("failures::a_panic_is_told_with_its_text", action_panics),
    (
        "failures::an_action_that_exits_is_told_with_its_status",
        action_exits,
    ),
    (
        "failures::an_action_that_is_killed_is_told_with_its_signal",
        action_is_killed,
    ),
    (
        "attacks::a_sigterm_to_a_starting_daemon_is_told",
        sigterm_in_action,
    ),
    (
        "crashes::a_start_whose_launcher_is_killed_did_not_happen",
        launcher_killed,
    ),
    (
        "attacks::a_signal_to_the_intermediate_is_neither_handled_nor_fatal",
        intermediate,
    ),
    ("signals::an_ignored_sigchld_is_no_error", ignored_sigchld),
    (
        "signals::interruptions_do_not_disturb_a_start",
        interruptions,
    ),
    (
        "streams::closed_streams_become_the_null_device",
        closed_streams,
    ),
    (
        "streams::exit_handlers_run_once_in_the_daemon",
        exit_handlers,
    ),
    ("streams::unflushed_output_is_written_once", unflushed),
    (
        "held_up::a_stopped_daemon_does_not_outlast_the_time",
        stopped_daemon,
    ),
];

fn unknown_names(place: &Place) -> String {
    let user = place.launch(|| Daemonize::new().user("no-such-user"), drop);
    let user = user.to_string();
    let group = place.launch(|| Daemonize::new().group("no-such-group"), drop);
    format!("user: {user}; group: {group}")
}

fn missing_root(place: &Place) -> String {
    let run = place.launch(|| with_pid_file().chroot("missing"), drop);
    run.to_string()
}

fn missing_folder(place: &Place) -> String {
    let run = place.launch(|| Daemonize::new().pid_file("missing/daemon.pid"), drop);
    run.to_string()
}

fn missing_working_directory(place: &Place) -> String {
    let run = place.launch(|| Daemonize::new().working_directory("missing"), drop);
    run.to_string()
}

fn with_action(place: &Place, action: fn()) -> String {
    let run = place.launch(|| with_pid_file().privileged_action(action), drop);
    format!(
        "{run}; the file has {}",
        content(&place.path("daemon.pid"), &run)
    )
}

fn action_panics(place: &Place) -> String {
    with_action(place, || panic!("text"))
}

fn action_exits(place: &Place) -> String {
    with_action(place, || std::process::exit(3))
}

fn action_is_killed(place: &Place) -> String {
    with_action(place, || sys::kill(std::process::id(), libc::SIGKILL))
}

/// An action that takes a second, and tells that it has begun.
fn hold() {
    tell("holds");
    std::thread::sleep(Duration::from_secs(1));
}

/// Starts with an action that holds, and does this to the launcher and the
/// daemon when it has begun.
fn meanwhile(place: &Place, deed: impl FnOnce(u32, u32) -> String) -> String {
    let (began, before) = (Instant::now(), place.messages().len());
    let launcher = sys::fork(|| {
        harness::start(|| with_pid_file().privileged_action(hold), drop);
    });
    let holder = || {
        let messages = place.messages();
        let mut holders = messages.iter().filter(|message| message.text == "holds");
        holders.next().map(|message| message.sender)
    };
    let time = Duration::from_secs(5);
    assert!(place.wait_until(time, || holder().is_some()), "no action");
    let done = deed(launcher, holder().expect("a daemon"));
    let run = place.await_launcher(launcher, began, before);
    format!(
        "{done}{run}; the file has {}",
        content(&place.path("daemon.pid"), &run)
    )
}

fn how_it_is(place: &Place, launcher: u32) -> String {
    let ended = Duration::from_millis(300);
    match place.wait_until(ended, || place.has_ended(launcher)) {
        true => "the launcher has ended before; ".to_owned(),
        false => "the launcher waits; ".to_owned(),
    }
}

fn sigterm_in_action(place: &Place) -> String {
    meanwhile(place, |launcher, daemon| {
        let launchers = how_it_is(place, launcher);
        sys::kill(daemon, libc::SIGTERM);
        launchers
    })
}

fn launcher_killed(place: &Place) -> String {
    meanwhile(place, |launcher, _| {
        let launchers = how_it_is(place, launcher);
        if !place.has_ended(launcher) {
            sys::kill(launcher, libc::SIGKILL);
        }
        launchers
    })
}

fn stopped_daemon(place: &Place) -> String {
    meanwhile(place, |launcher, daemon| {
        sys::kill(daemon, libc::SIGSTOP);
        how_it_is(place, launcher)
    })
}

fn intermediate(place: &Place) -> String {
    let parent = || {
        // Until it has ended, which is at once.
        std::thread::sleep(Duration::from_millis(200));
        tell(format_args!("parent {}", sys::parent()));
    };
    let run = place.launch(|| with_pid_file().privileged_action(parent), drop);
    let parents = run.told("parent").concat();
    let own = std::process::id().to_string();
    match parents == own {
        true => format!("{run}; no intermediate is left 200 ms into the action"),
        false => format!("{run}; an intermediate is left"),
    }
}

fn ignored_sigchld(place: &Place) -> String {
    let build = || {
        sys::ignore(libc::SIGCHLD);
        with_pid_file()
    };
    place.launch(build, drop).to_string()
}

extern "C" fn nothing(_: i32) {}

fn interruptions(place: &Place) -> String {
    const STARTS: usize = 20;
    let (mut failed, mut lost, mut daemons) = (0, Vec::new(), 0);
    for _ in 0..STARTS {
        let build = || {
            sys::handle(libc::SIGALRM, nothing);
            sys::set_timer(500);
            with_pid_file()
        };
        let run = place.launch(build, |()| sys::set_timer(0));
        daemons += usize::from(run.has_daemon());
        if !run.is_success() {
            failed += 1;
            lost.push(run.to_string());
        }
        place.end_all();
        place.forget();
    }
    lost.sort();
    lost.dedup();
    format!(
        "of {STARTS} launchers {failed} fail, of {STARTS} starts {daemons} have a daemon: {}",
        lost.join(" | ")
    )
}

fn closed_streams(place: &Place) -> String {
    let build = || {
        for stream in 0..3 {
            sys::close(stream);
        }
        with_pid_file()
    };
    let run = place.launch(build, drop);
    format!(
        "{run}; the file has {}",
        content(&place.path("daemon.pid"), &run)
    )
}

extern "C" fn tell_of_exit() {
    tell("exit handler");
}

fn exit_handlers(place: &Place) -> String {
    let build = || {
        sys::at_exit(tell_of_exit);
        Daemonize::new()
    };
    let run = place.launch(build, |()| std::process::exit(0));
    let messages = run.messages();
    let ran = messages.iter().filter(|one| one.text == "exit handler");
    let senders: Vec<_> = ran.map(|message| message.sender).collect();
    let in_launcher = senders.contains(&run.launcher);
    format!(
        "the handler runs {} times, {} the launcher",
        senders.len(),
        if in_launcher { "also in" } else { "not in" }
    )
}

fn unflushed(place: &Place) -> String {
    let path = place.path("output");
    let build = || {
        let file = File::create(&path).expect("create a file");
        sys::replace(1, file.as_raw_fd());
        sys::print_unflushed(c"line");
        Daemonize::new().stdout(Stdio::keep())
    };
    let run = place.launch(build, |()| std::process::exit(0));
    let written = fs::read_to_string(&path).unwrap_or_default();
    let lines = written.lines().count();
    format!("{run}; written {lines} times, {}", look_at(&path))
}
