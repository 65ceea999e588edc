//! Many launchers that contend for one pid file, and who gets in their way: as
//! tester/src/contest.rs has it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use daemonize2::{Daemonize, Outcome};

use crate::harness::{Place, name, set_mode, tell};
use crate::sys;
use crate::{Case, attack};

pub const CASES: &[Case] = &[
    (
        "attacks::of_32_launchers_no_two_daemons_live_at_a_time",
        undisturbed,
    ),
    (
        "attacks::removing_the_file_under_its_lock_makes_no_second_daemon",
        removing_unlocked,
    ),
    (
        "attacks::replacing_the_file_all_the_time_makes_no_second_holder_of_it",
        replacing,
    ),
    (
        "attacks::changing_what_is_there_all_the_time_makes_no_second_holder_of_it",
        changing_type,
    ),
    (
        "attacks::changing_the_folders_permissions_all_the_time_makes_no_second_daemon",
        changing_folder,
    ),
    (
        "attacks::a_stranger_in_a_sticky_folder_makes_no_second_daemon",
        planting,
    ),
];

const TIME: Duration = Duration::from_secs(10);
const CONTENDERS: usize = 32;
/// Of one contender: those that hang stay until the end.
const MOST_STARTS: u64 = 100;
const STRANGER: u32 = 4_000_000_001;

type Meddling = fn(&Path, usize) -> io::Result<()>;

fn undisturbed(place: &Place) -> String {
    contest(place, &[], u64::MAX, false)
}

fn removing_unlocked(place: &Place) -> String {
    let remove =
        |path: &Path, _| attack::remove_unlocked(path, |file| sys::flock(file, libc::LOCK_EX));
    contest(place, &[(remove as Meddling, None); 2], u64::MAX, false)
}

fn replacing(place: &Place) -> String {
    contest(place, &[(attack::replace, None)], u64::MAX, false)
}

fn changing_type(place: &Place) -> String {
    contest(place, &[(attack::change_type, None)], MOST_STARTS, false)
}

fn changing_folder(place: &Place) -> String {
    contest(place, &[(attack::change_folder, None)], u64::MAX, false)
}

fn planting(place: &Place) -> String {
    contest(
        place,
        &[(attack::plant as Meddling, Some(STRANGER)); 2],
        MOST_STARTS,
        true,
    )
}

/// Lets them run, and counts what holds or does not. Of the daemons all remove
/// the file, or one removes it, the next one exits without, the next one is
/// killed.
fn contest(
    place: &Place,
    meddlers: &[(Meddling, Option<u32>)],
    most: u64,
    all_remove: bool,
) -> String {
    let path = place.folder("folder").join("daemon.pid");
    let victim = path.with_file_name("victim");
    fs::write(&victim, "precious").expect("write a file");
    sys::make_fifo(&path.with_file_name("fifo"));
    if meddlers.iter().any(|(_, user)| user.is_some()) {
        set_mode(path.parent().expect("a folder"), 0o1777);
    }
    let end = Instant::now() + TIME;
    let mut processes = Vec::new();
    for &(meddling, user) in meddlers {
        processes.push(sys::fork(|| meddle(&path, meddling, user, end)));
    }
    for _ in 0..CONTENDERS {
        processes.push(sys::fork(|| contend(&path, most, all_remove, end)));
    }
    let mut count = Count::default();
    let mut look = || count.take(place.forget());
    let is_over = || {
        look();
        processes.iter().all(|&pid| place.has_ended(pid))
    };
    place.wait_until(TIME + Duration::from_secs(60), is_over);
    // The last daemons.
    thread::sleep(Duration::from_millis(500));
    look();
    let hanging = crate::harness::children().len();
    let victim = fs::read(&victim).unwrap_or_default();
    count.summary(hanging, victim == b"precious")
}

#[derive(Default)]
struct Count {
    starts: usize,
    zeros: usize,
    failures: BTreeMap<String, usize>,
    daemons: usize,
    beside: usize,
    lost: usize,
    foreign: usize,
    shared: usize,
    living: Vec<(u32, String)>,
}

impl Count {
    fn take(&mut self, messages: Vec<crate::harness::Message>) {
        for message in messages {
            let words: Vec<_> = message.text.split(' ').collect();
            match words[..] {
                ["returned", status] => {
                    self.starts += 1;
                    self.zeros += usize::from(status == "0");
                }
                ["failed", error] => *self.failures.entry(error.to_owned()).or_default() += 1,
                ["holds", file, content, at] => {
                    self.daemons += 1;
                    self.beside += usize::from(!self.living.is_empty());
                    self.lost += usize::from(at == "lost");
                    self.foreign += usize::from(content != message.sender.to_string());
                    let is_same = |(_, other): &(u32, String)| other == file;
                    self.shared += usize::from(self.living.iter().any(is_same));
                    self.living.push((message.sender, file.to_owned()));
                }
                ["leaves", _, content, _] => {
                    self.foreign += usize::from(content != message.sender.to_string());
                    self.living.retain(|(pid, _)| *pid != message.sender);
                }
                _ => {}
            }
        }
    }

    fn summary(&self, hanging: usize, is_spared: bool) -> String {
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(error, times)| format!("{error} {times}"))
            .collect();
        format!(
            "{} s: {} starts, {} launchers exit 0, {} daemons; {} begin beside another, {} hold \
             a file that is not at its path, {} share a file, {} times a foreign content; in \
             children: {}; processes left {hanging}; victim {}",
            TIME.as_secs(),
            self.starts,
            self.zeros,
            self.daemons,
            self.beside,
            self.lost,
            self.shared,
            self.foreign,
            failures.join(", "),
            if is_spared { "spared" } else { "overwritten" }
        )
    }
}

// --- Who contends -----------------------------------------------------------------

fn contend(path: &Path, most: u64, all_remove: bool, end: Instant) {
    let mut number = 0;
    while Instant::now() < end && number < most {
        let launcher = sys::fork(|| start(path, number, all_remove));
        sys::wait(launcher);
        number += 1;
    }
}

/// Returns in no process.
fn start(path: &Path, number: u64, all_remove: bool) {
    // SAFETY: this program has one thread.
    match unsafe { Daemonize::new().pid_file(path).execute() } {
        Outcome::Parent(Ok(parent)) => {
            let status = parent.first_child_exit_status.code().unwrap_or(-1);
            tell(format_args!("returned {status}"));
        }
        Outcome::Parent(Err(error)) => tell(format_args!("returned {}", name(&error))),
        Outcome::Child(Err(error)) => tell(format_args!("failed {}", name(&error))),
        Outcome::Child(Ok(_)) => live(path, number, all_remove),
    }
    sys::exit_at_once(0);
}

fn live(path: &Path, number: u64, all_remove: bool) {
    let Some((own, id)) = own_pid_file() else {
        tell("holds none none lost");
        return;
    };
    let look = || {
        let content = fs::read_to_string(&own).unwrap_or_default();
        let at = if is_at(path, id) { "there" } else { "lost" };
        format!("{}:{} {} {at}", id.0, id.1, content.trim_end())
    };
    tell(format_args!("holds {}", look()));
    attack::live(number);
    tell(format_args!("leaves {}", look()));
    match if all_remove { 0 } else { number % 3 } {
        0 if is_at(path, id) => drop(fs::remove_file(path)),
        0 | 1 => {}
        _ => sys::kill(std::process::id(), libc::SIGKILL),
    }
}

/// The descriptor that the library keeps, the only one of a regular file.
fn own_pid_file() -> Option<(PathBuf, (u64, u64))> {
    (3..64).find_map(|number| {
        let path = PathBuf::from(format!("/proc/self/fd/{number}"));
        let found = fs::metadata(&path).ok().filter(|found| found.is_file())?;
        Some((path, (found.dev(), found.ino())))
    })
}

fn is_at(path: &Path, id: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == id)
}

// --- Who meddles ------------------------------------------------------------------

fn meddle(path: &Path, meddling: Meddling, user: Option<u32>, end: Instant) {
    if let Some(user) = user {
        sys::set_groups(&[]).expect("set groups");
        sys::set_ids([user; 3], [user; 3]).expect("become a stranger");
    }
    let mut number = 0;
    while Instant::now() < end {
        let _ = meddling(path, number);
        attack::pause();
        number += 1;
    }
}
