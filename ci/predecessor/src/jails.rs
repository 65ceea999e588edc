//! What leads out of a new root directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use daemonize2::Daemonize;

use crate::Case;
use crate::files::with_pid_file;
use crate::harness::{self, Place, Run, tell};
use crate::sys;

pub const CASES: &[Case] = &[
    ("root::nothing_outside_can_be_reached", dot_dot),
    (
        "attacks::proc_shows_a_jailed_daemon_nothing_outside",
        proc_of_itself,
    ),
    (
        "attacks::proc_shows_a_jailed_user_no_other_process",
        proc_of_others,
    ),
    (
        "attacks::a_folder_that_the_caller_holds_open_leads_out_unless_closed",
        open_folder,
    ),
    (
        "attacks::a_jail_that_is_moved_away_during_the_start_is_told",
        moved_away,
    ),
    (
        "attacks::a_jail_that_is_moved_under_a_daemon_in_it_is_its_root_all_the_same",
        moved_under,
    ),
    ("attacks::jails_that_are_swapped_all_the_time_hold", swapped),
    ("root::an_empty_jail_is_enough", empty),
];

const UID: u32 = 4_000_000_077;

type Id = (u64, u64);

fn id(path: &Path) -> Option<Id> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Where climbing leads from the working directory.
fn climb() -> Option<Id> {
    for _ in 0..64 {
        let here = id(Path::new("."))?;
        std::env::set_current_dir("..").ok()?;
        if id(Path::new("."))? == here {
            return Some(here);
        }
    }
    None
}

fn tell_climbed() {
    if let Some((device, inode)) = climb() {
        tell(format_args!("climbed {device}:{inode}"));
    }
}

/// What these paths lead to, and what is above that.
fn tell_reached(paths: impl IntoIterator<Item = String>) {
    for path in paths {
        if std::env::set_current_dir(&path).is_ok() {
            tell_climbed();
        }
    }
}

/// The places that the daemon has reached, by their role.
fn reached(run: &Run, jails: &[(Id, &str)]) -> String {
    let top = id(Path::new("/")).expect("a root directory");
    let places: BTreeSet<String> = run
        .told("climbed")
        .into_iter()
        .map(|text| {
            let role = |(found, role): &(Id, &str)| {
                (text == format!("{}:{}", found.0, found.1)).then(|| (*role).to_owned())
            };
            let known = jails.iter().find_map(role);
            let is_top = text == format!("{}:{}", top.0, top.1);
            known.unwrap_or_else(|| {
                if is_top {
                    "the real root directory".to_owned()
                } else {
                    "elsewhere".to_owned()
                }
            })
        })
        .collect();
    places.into_iter().collect::<Vec<_>>().join(", ")
}

fn dot_dot(place: &Place) -> String {
    let jail = place.folder("jail");
    let inside = place.folder("jail/inside");
    let roles = [(id(&jail).expect("a jail"), "the jail")];
    let mut lines = Vec::new();
    for (what, folder, user) in [
        ("from outside", place.path(""), 0),
        ("from outside, as user 7001", place.path(""), 7001),
        ("from inside", inside, 0),
    ] {
        let build = || {
            Daemonize::new()
                .working_directory(folder)
                .chroot(&jail)
                .user(user)
        };
        let run = place.launch(build, |()| tell_climbed());
        lines.push(format!("{what}: {run}, reaches {}", reached(&run, &roles)));
        place.forget();
    }
    lines.join("; ")
}

/// What leads from a process to folders.
fn ways(process: &str) -> Vec<String> {
    let ways = ["cwd", "root", "root/..", "task/../root", "task/../cwd/.."];
    ways.map(|way| format!("/proc/{process}/{way}")).to_vec()
}

fn with_proc(place: &Place) -> std::path::PathBuf {
    let jail = place.folder("jail");
    let proc = place.folder("jail/proc");
    let flags = libc::MS_BIND | libc::MS_REC;
    sys::mount(Some(Path::new("/proc")), &proc, None, flags, "").expect("bind /proc");
    jail
}

fn proc_of_itself(place: &Place) -> String {
    let jail = with_proc(place);
    let inside = place.folder("jail/inside");
    let roles = [(id(&jail).expect("a jail"), "the jail")];
    let mut lines = Vec::new();
    for (what, folder) in [("from outside", place.path("")), ("from inside", inside)] {
        let live = |()| {
            // What climbing itself changes is the working directory.
            tell_reached(ways("self"));
            tell_reached(ways("thread-self"));
            tell_reached((0..100).map(|number| format!("/proc/self/fd/{number}")));
        };
        let build = || with_pid_file().working_directory(folder).chroot(&jail);
        let run = place.launch(build, live);
        lines.push(format!("{what}: {run}, reaches {}", reached(&run, &roles)));
        place.end_all();
        place.forget();
    }
    lines.join("; ")
}

fn proc_of_others(place: &Place) -> String {
    let jail = with_proc(place);
    let inside = place.folder("jail/inside");
    let roles = [(id(&jail).expect("a jail"), "the jail")];
    let mut lines = Vec::new();
    for (what, user) in [("as a user", UID), ("as root", 0)] {
        let live = |()| {
            for entry in fs::read_dir("/proc").expect("list processes") {
                let name = entry.expect("a process").file_name();
                let name = name.to_string_lossy();
                if name.bytes().all(|byte| byte.is_ascii_digit()) {
                    tell_reached(ways(&name));
                }
            }
        };
        let inside = inside.clone();
        let build = || {
            sys::set_groups(&[]).expect("set groups");
            let daemonize = Daemonize::new().working_directory(inside).chroot(&jail);
            daemonize.user(user).group(user)
        };
        let run = place.launch(build, live);
        lines.push(format!("{what}: {run}, reaches {}", reached(&run, &roles)));
        place.forget();
    }
    lines.join("; ")
}

fn open_folder(place: &Place) -> String {
    let jail = place.folder("jail");
    let outside = place.folder("outside");
    let roles = [(id(&jail).expect("a jail"), "the jail")];
    let folder = File::open(outside).expect("open a folder");
    let number = folder.as_raw_fd();
    let build = || Daemonize::new().working_directory("jail").chroot(&jail);
    let run = place.launch(build, |()| {
        if sys::enter_folder(number).is_ok() {
            tell_climbed();
        }
    });
    format!("{run}, reaches {}", reached(&run, &roles))
}

fn moved_away(place: &Place) -> String {
    let jail = place.folder("jail");
    let moved = place.path("moved");
    let from = jail.clone();
    let action = move || fs::rename(from, moved).expect("move the jail");
    let build = || with_pid_file().chroot(&jail).privileged_action(action);
    let run = place.launch(build, drop);
    let path = place.path("daemon.pid");
    format!("{run}; the file has {}", harness::content(&path, &run))
}

fn moved_under(place: &Place) -> String {
    let jail = place.folder("jail");
    let inside = place.folder("jail/inside");
    let moved = place.path("moved");
    let roles = [(id(&jail).expect("a jail"), "the moved jail")];
    let action = move || fs::rename(jail, moved).expect("move the jail");
    let build = || {
        let daemonize = Daemonize::new().working_directory(inside).chroot("..");
        daemonize.privileged_action(action)
    };
    let run = place.launch(build, |()| tell_climbed());
    format!("{run}, reaches {}", reached(&run, &roles))
}

fn swapped(place: &Place) -> String {
    const STARTS: usize = 60;
    let (jail, other) = (place.folder("jail"), place.folder("other"));
    place.folder("jail/inside");
    place.folder("other/inside");
    let third = place.path("third");
    let roles = [
        (id(&jail).expect("a jail"), "its root"),
        (id(&other).expect("a jail"), "its root"),
    ];
    let swapper = sys::fork(|| {
        let end = Instant::now() + Duration::from_secs(100);
        while Instant::now() < end {
            fs::rename(&jail, &third).expect("swap");
            fs::rename(&other, &jail).expect("swap");
            fs::rename(&third, &other).expect("swap");
        }
    });
    let (mut out, mut held, mut failed, mut zeros) = (0, 0, Vec::new(), 0);
    for _ in 0..STARTS {
        let jail = jail.clone();
        let build = || {
            Daemonize::new()
                .working_directory("jail/inside")
                .chroot(jail)
        };
        let run = place.launch(build, |()| tell_climbed());
        match run.daemon() {
            Some(daemon) => {
                match reached(&run, &roles).as_str() {
                    "its root" => held += 1,
                    _ => out += 1,
                }
                sys::kill(daemon, libc::SIGKILL);
            }
            None => {
                zeros += usize::from(run.is_success());
                failed.push(run.error().unwrap_or_default());
            }
        }
        place.forget();
    }
    sys::kill(swapper, libc::SIGKILL);
    thread::sleep(Duration::from_millis(50));
    let count = failed.len();
    failed.sort();
    failed.dedup();
    format!(
        "of {STARTS} starts: {held} daemons climb to one of the jails, {out} to the real root \
         directory, {count} fail ({zeros} of them with launchers that exit 0): {}",
        failed.join(", ")
    )
}

fn empty(place: &Place) -> String {
    let jail = place.folder("jail");
    let run = place.launch(|| Daemonize::new().chroot(&jail), drop);
    run.to_string()
}
