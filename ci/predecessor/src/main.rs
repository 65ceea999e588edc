//! Runs the published daemonize2 0.7.0 through the attacks of docs/attacks.md,
//! each named like the test of that row, and prints what comes of it.
//!
//!     predecessor FOLDER              all of them
//!     predecessor FOLDER NAME...      those whose names contain one of these
//!
//! Needs root, Linux, and a folder that everybody can reach, whose file system
//! knows set-user-id bits. Each case is a process of its own with a folder of its
//! own in that, and in a mount namespace of its own; what it starts becomes its
//! child, and is ended by pid. All are in a pid namespace of their own, which ends
//! with this program, whatever ends that.

#[path = "../../../tester/src/attack.rs"]
mod attack;
mod contests;
mod descriptors;
mod disks;
mod failures;
mod files;
mod harness;
mod jails;
mod privileges;
mod sys;
mod tracing;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::Place;

/// A case: how it is called, and what it does and sees.
type Case = (&'static str, fn(&Place) -> String);

/// How long a case may take.
const TIME: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first() {
        if first == privileges::SET_ID {
            return privileges::start_set_id(rest);
        }
        if first == privileges::PRINT_USER {
            println!("{}", sys::effective_user());
            return ExitCode::SUCCESS;
        }
    }
    let Some((folder, names)) = arguments.split_first() else {
        eprintln!("predecessor: needs a folder");
        return ExitCode::FAILURE;
    };
    if sys::effective_user() != 0 {
        eprintln!("predecessor: needs root");
        return ExitCode::FAILURE;
    }
    sys::close_inherited();
    sys::separate_mounts().expect("separate mounts");
    sys::separate_pids().expect("separate pids");
    let mut status = None;
    let first = sys::fork(|| {
        sys::end_with_parent();
        let proc = Path::new("/proc");
        sys::mount(Some(proc), proc, Some(c"proc"), 0, "").expect("mount /proc");
        std::process::exit(i32::from(!run_all(Path::new(folder), names)));
    });
    while status.is_none() {
        sys::wait_until_ended(first, TIME);
        status = sys::reap(first);
    }
    match status {
        Some((_, status)) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs those that are wanted, as the first process of a namespace. False where
/// one has no outcome.
fn run_all(folder: &Path, names: &[String]) -> bool {
    let all = [
        files::CASES,
        contests::CASES,
        disks::CASES,
        failures::CASES,
        tracing::CASES,
        privileges::CASES,
        jails::CASES,
        descriptors::CASES,
    ];
    print_machine();
    let mut all_have_outcomes = true;
    for (name, case) in all.into_iter().flatten() {
        let is_wanted = |wanted: &String| name.contains(wanted.as_str());
        if !names.is_empty() && !names.iter().any(is_wanted) {
            continue;
        }
        match run(folder, *case) {
            Some(outcome) => println!("{name}\n    {outcome}"),
            None => {
                println!("{name}\n    no outcome");
                all_have_outcomes = false;
            }
        }
    }
    all_have_outcomes
}

/// What some outcomes depend on.
fn print_machine() {
    for name in [
        "kernel/osrelease",
        "kernel/ngroups_max",
        "fs/protected_symlinks",
        "fs/protected_hardlinks",
        "fs/protected_fifos",
        "fs/protected_regular",
        "fs/suid_dumpable",
    ] {
        let value = fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
        println!("{name}: {}", value.trim_end());
    }
}

/// Runs a case in a process of its own; `None` if it has failed.
fn run(folder: &Path, case: fn(&Place) -> String) -> Option<String> {
    let folder = folder.join("case");
    fs::create_dir(&folder).expect("create a folder");
    harness::set_mode(&folder, 0o755);
    let (mut outcome, writing) = sys::pipe().expect("create a pipe");
    let pid = sys::fork(|| {
        sys::separate_mounts().expect("separate mounts");
        let null = File::open("/dev/null").expect("open the null device");
        sys::replace(0, null.as_raw_fd());
        drop(null);
        let place = Place::new(folder.clone());
        let text = case(&place);
        drop(place);
        sys::write(writing, text.as_bytes());
    });
    // SAFETY: nobody else has it.
    drop(unsafe { File::from_raw_fd(writing) });
    if !sys::wait_until_ended(pid, TIME) {
        sys::kill(pid, libc::SIGKILL);
    }
    let began = Instant::now();
    let mut left = harness::children();
    while !left.is_empty() && began.elapsed() < TIME {
        for pid in left {
            sys::kill(pid, libc::SIGKILL);
        }
        while sys::reap(0).is_some() {}
        left = harness::children();
    }
    // Not from within, where other things may be mounted in it.
    fs::remove_dir_all(&folder).expect("remove the folder");
    let mut text = Vec::new();
    let _ = outcome.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    (!text.is_empty()).then_some(text)
}
