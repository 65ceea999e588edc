//! The pid file, and what others put in its place.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use daemonize2::Daemonize;

use crate::Case;
use crate::harness::{Place, Run, content, descriptors, give, look_at, said, set_mode};
use crate::sys;

pub const CASES: &[Case] = &[
    ("pid_file::a_link_is_not_followed", link),
    ("pid_file::a_dangling_link_is_not_followed", dangling_link),
    ("pid_file::a_file_with_another_name_is_refused", hard_link),
    ("pid_file::a_fifo_is_refused", fifo),
    ("pid_file::a_device_is_refused", null_device),
    (
        "attacks::a_device_that_is_always_full_is_refused",
        full_device,
    ),
    (
        "pid_file::another_users_left_over_file_is_replaced",
        others_file,
    ),
    (
        "pid_file::a_folder_that_others_can_write_to_is_refused",
        others_folder,
    ),
    (
        "pid_file::a_folder_whose_access_list_lets_others_write_is_refused",
        access_list,
    ),
    ("pid_file::its_mode_is_644_less_the_umask", mode),
    ("pid_file::its_user_alone_can_be_changed", user_alone),
    ("pid_file::its_group_alone_can_be_changed", group_alone),
    (
        "pid_file::a_second_start_names_the_running_daemon",
        second_start,
    ),
    (
        "races::a_thousand_starts_are_complete_when_the_launcher_ends",
        read_at_end,
    ),
    (
        "readiness::a_start_without_deferral_waits_for_the_closures",
        slow_action,
    ),
    ("pid_file::a_prober_never_fails_a_start", prober),
    (
        "held_up::the_time_counts_before_there_is_a_daemon",
        shared_lock,
    ),
    (
        "pid_file::it_is_close_on_exec_and_no_standard_stream",
        own_descriptors,
    ),
];

pub fn with_pid_file() -> Daemonize<()> {
    Daemonize::new().pid_file("daemon.pid")
}

fn launch(place: &Place) -> Run<'_> {
    place.launch(with_pid_file, drop)
}

/// A file that an attack would change.
fn victim(place: &Place) -> std::path::PathBuf {
    let victim = place.file("victim", "precious");
    set_mode(&victim, 0o666);
    victim
}

/// Starts with what would change everything about the pid file.
fn attack(place: &Place, victim: &Path) -> String {
    let build = || {
        with_pid_file()
            .chown_pid_file_user(7001)
            .chown_pid_file_group(7002)
    };
    let run = place.launch(build, drop);
    format!(
        "{run}; the other file has {}, {}",
        content(victim, &run),
        look_at(victim)
    )
}

fn link(place: &Place) -> String {
    let victim = victim(place);
    symlink(&victim, place.path("daemon.pid")).expect("link");
    attack(place, &victim)
}

fn dangling_link(place: &Place) -> String {
    let target = place.path("target");
    symlink(&target, place.path("daemon.pid")).expect("link");
    let run = launch(place);
    format!("{run}; the target has {}", content(&target, &run))
}

fn hard_link(place: &Place) -> String {
    let victim = victim(place);
    fs::hard_link(&victim, place.path("daemon.pid")).expect("link");
    attack(place, &victim)
}

fn fifo(place: &Place) -> String {
    sys::make_fifo(&place.path("daemon.pid"));
    let run = launch(place);
    let in_open = crate::harness::children().into_iter().filter(|pid| {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        let number = call
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        number == Some(libc::SYS_openat) || number == Some(libc::SYS_open)
    });
    format!("{run}; processes that hang in open(2): {}", in_open.count())
}

fn null_device(place: &Place) -> String {
    let run = place.launch(|| Daemonize::new().pid_file("/dev/null"), drop);
    run.to_string()
}

fn full_device(place: &Place) -> String {
    let run = place.launch(|| Daemonize::new().pid_file("/dev/full"), drop);
    run.to_string()
}

fn others_file(place: &Place) -> String {
    let path = place.file("daemon.pid", "precious");
    give(&path, 7001, 7001);
    let run = launch(place);
    format!(
        "{run}; the file has {}, {}",
        content(&path, &run),
        look_at(&path)
    )
}

fn others_folder(place: &Place) -> String {
    let folder = place.folder("folder");
    set_mode(&folder, 0o777);
    let run = place.launch(|| Daemonize::new().pid_file("folder/daemon.pid"), drop);
    let path = folder.join("daemon.pid");
    format!("{run}; the file has {}", content(&path, &run))
}

fn access_list(place: &Place) -> String {
    let folder = place.folder("folder");
    sys::give_access_to(&folder, 7001).expect("set the access list");
    let run = place.launch(|| Daemonize::new().pid_file("folder/daemon.pid"), drop);
    let path = folder.join("daemon.pid");
    format!("{run}; the file has {}", content(&path, &run))
}

fn mode(place: &Place) -> String {
    let run = place.launch(|| with_pid_file().umask(0), drop);
    format!("{run}; {}", look_at(&place.path("daemon.pid")))
}

fn user_alone(place: &Place) -> String {
    let run = place.launch(|| with_pid_file().chown_pid_file_user(7001), drop);
    format!("{run}; {}", look_at(&place.path("daemon.pid")))
}

fn group_alone(place: &Place) -> String {
    let run = place.launch(|| with_pid_file().chown_pid_file_group(7002), drop);
    format!("{run}; {}", look_at(&place.path("daemon.pid")))
}

fn second_start(place: &Place) -> String {
    let first = launch(place).to_string();
    let path = place.path("daemon.pid");
    let state = || {
        let found = fs::metadata(&path).expect("a pid file");
        let bytes = fs::read(&path).expect("a pid file");
        (bytes, found.ctime(), found.ctime_nsec(), found.mode())
    };
    let before = state();
    let second = launch(place);
    let is_touched = if state() == before {
        "as it was"
    } else {
        "changed"
    };
    format!("first: {first}; second: {second}; the file is {is_touched}")
}

fn read_at_end(place: &Place) -> String {
    const STARTS: usize = 200;
    let (mut without, mut empty) = (0, 0);
    for _ in 0..STARTS {
        let _ = fs::remove_file(place.path("daemon.pid"));
        let run = launch(place);
        match &run.pid_file {
            None => without += 1,
            Some(bytes) if bytes.is_empty() => empty += 1,
            Some(_) => {}
        }
        place.end_all();
        place.forget();
    }
    format!("of {STARTS} launchers' ends: {without} without file, {empty} with an empty one")
}

fn slow_action(place: &Place) -> String {
    let slow = || thread::sleep(Duration::from_millis(300));
    let run = place.launch(|| with_pid_file().privileged_action(slow), drop);
    let bytes = run.pid_file.clone();
    let found = bytes.map_or("no file".to_owned(), |bytes| said(&bytes, &run));
    format!(
        "{run}; the launcher took {} us, the file then had {found}",
        run.took.as_micros()
    )
}

/// Somebody who polls the lock as a status command does.
fn prober(place: &Place) -> String {
    const STARTS: usize = 30;
    let path = place.file("daemon.pid", "");
    let prober = sys::fork(|| {
        let file = File::open(&path).expect("open the pid file");
        loop {
            let _ = sys::flock(&file, libc::LOCK_SH);
            // Held more often than not.
            for _ in 0..20 {
                let _ = fs::read(&path);
            }
            let _ = sys::flock(&file, libc::LOCK_UN);
            thread::yield_now();
        }
    });
    let (mut succeeded, mut errors) = (0, Vec::new());
    for _ in 0..STARTS {
        let run = launch(place);
        match run.daemon() {
            Some(daemon) => {
                succeeded += 1;
                sys::kill(daemon, libc::SIGKILL);
                place.wait_until(Duration::from_secs(5), || place.has_ended(daemon));
            }
            None => errors.push(format!("{run}")),
        }
        place.forget();
    }
    sys::kill(prober, libc::SIGKILL);
    errors.sort();
    errors.dedup();
    format!(
        "of {STARTS} starts {succeeded} have a daemon; the others: {}",
        errors.join(" | ")
    )
}

fn shared_lock(place: &Place) -> String {
    let path = place.file("daemon.pid", "4242\n");
    let prober = File::open(&path).expect("open the pid file");
    sys::flock(&prober, libc::LOCK_SH).expect("lock the pid file");
    let run = launch(place);
    format!("{run}; the file has {}", content(&path, &run))
}

fn own_descriptors(place: &Place) -> String {
    let run = place.launch(with_pid_file, |()| {
        let numbers = (3..900).filter(|&number| sys::is_close_on_exec(number));
        crate::harness::tell(format_args!(
            "close-on-exec {:?}",
            numbers.collect::<Vec<_>>()
        ));
    });
    let daemon = run.daemon().expect("a daemon");
    format!(
        "{run}; open in it: {:?}, of which close-on-exec {}",
        descriptors(daemon),
        run.told("close-on-exec").concat()
    )
}
