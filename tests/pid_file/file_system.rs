use std::io::Write as _;

use tester::config::NewFile;
use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_full_file_system_is_reported, needs Root, Linux, Mounting),
    case!(a_stale_file_on_a_full_file_system_is_taken_over, needs Root, Linux, Mounting),
    case!(a_file_system_that_fills_up_during_the_start_is_reported, needs Root, Linux, Mounting),
    case!(a_file_system_without_free_inodes_is_reported, needs Root, Linux, Mounting),
    case!(a_read_only_file_system_is_reported, needs Root, Linux, Mounting),
];

/// A start whose pid file is on a file system in memory, with these mount options.
fn on_own_disk(options: &str, body: impl FnOnce(&Scenario, &Path) + Send) {
    let scenario = scenario!().pid_file("disk/daemon.pid");
    let (scenario, disk) = scenario.with_directory("disk");
    with_own_mounts(|| {
        let options = format!("mode=755,{options}");
        mount(&["-t", "tmpfs", "-o", &options, "tester"], &disk);
        body(&scenario, &disk);
    });
}

/// One page has room for the content of one file.
const ONE_PAGE: &str = "size=4k";

#[track_caller]
fn fill(disk: &Path) {
    let mut file = File::create(disk.join("filler")).unwrap();
    while file.write_all(&[0; 512]).is_ok() {}
}

fn a_full_file_system_is_reported() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        fill(disk);
        for _ in 0..2 {
            scenario.assert_pid_file_fails("WritePid", libc::ENOSPC);
        }
        fs::remove_file(disk.join("filler")).unwrap();
        scenario.start().assert_pid_file_complete();
    });
}

/// The pid needs no more room than the stale content.
fn a_stale_file_on_a_full_file_system_is_taken_over() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        let run = scenario.start();
        fill(disk);
        run.kill_daemon();
        run.wait_until_all_ended();
        scenario.start().assert_pid_file_complete();
    });
}

fn a_file_system_that_fills_up_during_the_start_is_reported() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        let filler = NewFile::new(disk.join("filler"), " ".repeat(4096));
        fs::write(disk.join("daemon.pid"), "4194304\n").unwrap();
        let scenario = scenario.clone();
        let scenario = scenario.privileged_action([Step::WriteFile(filler)]);
        scenario.assert_pid_file_fails("WritePid", libc::ENOSPC);
    });
}

fn a_file_system_without_free_inodes_is_reported() {
    on_own_disk("nr_inodes=2", |scenario, disk| {
        fs::write(disk.join("filler"), "").unwrap();
        scenario.assert_pid_file_fails("OpenPidfile", libc::ENOSPC);
        // The start now needs no new file.
        fs::rename(disk.join("filler"), disk.join("daemon.pid")).unwrap();
        scenario.start().assert_pid_file_complete();
    });
}

fn a_read_only_file_system_is_reported() {
    on_own_disk(ONE_PAGE, |scenario, disk| {
        mount(&["-o", "remount,ro"], disk);
        scenario.assert_pid_file_fails("OpenPidfile", libc::EROFS);
        mount(&["-o", "remount,rw"], disk);
        fs::write(disk.join("daemon.pid"), "").unwrap();
        mount(&["-o", "remount,bind,ro"], disk);
        scenario.assert_pid_file_fails("OpenPidfile", libc::EROFS);
    });
}
