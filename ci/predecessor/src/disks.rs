//! What is full, read-only or forbidden.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use daemonize2::Daemonize;

use crate::Case;
use crate::files::with_pid_file;
use crate::harness::{Place, Run, content, set_mode};
use crate::sys;

pub const CASES: &[Case] = &[
    ("attacks::a_full_disk_is_told", full),
    (
        "attacks::a_disk_that_fills_up_during_the_start_is_told",
        fills_up,
    ),
    (
        "attacks::a_stale_pid_file_on_a_full_disk_is_taken_over",
        stale_on_full,
    ),
    ("attacks::a_disk_without_free_inodes_is_told", no_inodes),
    ("attacks::a_read_only_disk_is_told", read_only),
    (
        "attacks::a_limit_of_file_size_is_told_and_kills_nobody",
        file_size,
    ),
    (
        "attacks::a_folder_without_write_permission_is_told",
        forbidden_folder,
    ),
    (
        "attacks::a_pid_file_without_write_permission_is_told",
        forbidden_file,
    ),
    ("attacks::a_name_that_is_too_long_is_told", too_long),
    ("attacks::an_empty_path_is_told", empty_path),
    (
        "attacks::a_file_is_no_folder_whatever_follows_the_slash",
        below_a_file,
    ),
];

/// A file system in memory.
fn disk(place: &Place, options: &str) -> PathBuf {
    let disk = place.folder("disk");
    let options = format!("mode=755,{options}");
    sys::mount(
        Some(Path::new("predecessor")),
        &disk,
        Some(c"tmpfs"),
        0,
        &options,
    )
    .expect("mount a disk");
    disk
}

const ONE_PAGE: &str = "size=4k";

fn fill(disk: &Path) {
    let mut file = File::create(disk.join("filler")).expect("create a file");
    while file.write_all(&[0; 512]).is_ok() {}
}

fn on_disk() -> Daemonize<()> {
    Daemonize::new().pid_file("disk/daemon.pid")
}

fn launch(place: &Place) -> Run<'_> {
    place.launch(on_disk, drop)
}

fn full(place: &Place) -> String {
    let disk = disk(place, ONE_PAGE);
    fill(&disk);
    let run = launch(place);
    format!(
        "{run}; the file has {}",
        content(&disk.join("daemon.pid"), &run)
    )
}

fn fills_up(place: &Place) -> String {
    let disk = disk(place, ONE_PAGE);
    let path = disk.join("daemon.pid");
    let fill_up = move || fill(&disk);
    let run = place.launch(|| on_disk().privileged_action(fill_up), drop);
    format!("{run}; the file has {}", content(&path, &run))
}

fn stale_on_full(place: &Place) -> String {
    let disk = disk(place, ONE_PAGE);
    let path = disk.join("daemon.pid");
    fs::write(&path, "4194304\n").expect("write a stale pid file");
    fill(&disk);
    let run = launch(place);
    format!("{run}; the file has {}", content(&path, &run))
}

fn no_inodes(place: &Place) -> String {
    let disk = disk(place, "nr_inodes=2");
    let (filler, path) = (disk.join("filler"), disk.join("daemon.pid"));
    fs::write(&filler, "").expect("create a file");
    let new = launch(place).to_string();
    fs::rename(filler, path).expect("rename");
    format!("new file: {new}; existing file: {}", launch(place))
}

fn read_only(place: &Place) -> String {
    let path = disk(place, "size=64k");
    fs::write(path.join("daemon.pid"), "").expect("create a file");
    let remount = libc::MS_REMOUNT | libc::MS_RDONLY;
    sys::mount(None, &path, None, remount, "").expect("remount");
    let disk = launch(place).to_string();
    let path = place.folder("bound");
    fs::write(path.join("daemon.pid"), "").expect("create a file");
    sys::mount(Some(&path), &path, None, libc::MS_BIND, "").expect("bind");
    sys::mount(None, &path, None, remount | libc::MS_BIND, "").expect("remount");
    let bound = place.launch(|| Daemonize::new().pid_file("bound/daemon.pid"), drop);
    format!("disk: {disk}; bind mount: {bound}")
}

fn file_size(place: &Place) -> String {
    let build = || {
        sys::set_limit(libc::RLIMIT_FSIZE, 0);
        with_pid_file()
    };
    let run = place.launch(build, drop);
    format!(
        "{run}; the file has {}",
        content(&place.path("daemon.pid"), &run)
    )
}

const UID: u32 = 4_000_000_001;

fn as_ordinary() {
    sys::set_groups(&[]).expect("set groups");
    sys::set_ids([UID; 3], [UID; 3]).expect("become an ordinary user");
}

fn forbidden_folder(place: &Place) -> String {
    place.folder("folder");
    let build = || {
        as_ordinary();
        Daemonize::new().pid_file("folder/daemon.pid")
    };
    place.launch(build, drop).to_string()
}

fn forbidden_file(place: &Place) -> String {
    set_mode(&place.file("daemon.pid", ""), 0o444);
    let build = || {
        as_ordinary();
        with_pid_file()
    };
    place.launch(build, drop).to_string()
}

fn too_long(place: &Place) -> String {
    let name = "n".repeat(300);
    let path = "./".repeat(3000) + "daemon.pid";
    let [name, path] = [name, path].map(|path| {
        let build = || Daemonize::new().pid_file(path);
        place.launch(build, drop).to_string()
    });
    format!("name: {name}; path: {path}")
}

fn empty_path(place: &Place) -> String {
    let run = place.launch(|| Daemonize::new().pid_file(""), drop);
    run.to_string()
}

fn below_a_file(place: &Place) -> String {
    place.file("file", "precious");
    let runs = ["file/", "file/.", "file/../daemon.pid"].map(|path| {
        let run = place.launch(|| Daemonize::new().pid_file(path), drop);
        format!("'{path}': {run}")
    });
    runs.join("; ")
}
