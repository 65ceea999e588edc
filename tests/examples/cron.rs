//! The lines of crontab(5) in docs/guide.md start a daemon.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use daemonize2::PidFile;
use tempfile::TempDir;
use tester::case;
use tester::fixtures::set_mode;
use tester::slowness::time_limit;
use tester::suite::{Case, example};

pub(crate) const CASES: &[Case] = &[
    case!(cron_starts_a_daemon_at_boot_and_again_after_its_death, needs Examples),
    case!(cron_mails_the_reason_of_a_failed_start, needs Examples),
];

/// A home directory whose program `bin/clockd` is the example `control`. Dropping this stops the
/// daemon.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = TempDir::with_prefix("cron-").unwrap();
        let program = home.path().join("bin/clockd");
        fs::create_dir(home.path().join("bin")).unwrap();
        let control = example("control").unwrap();
        let script = format!(
            "#!/bin/sh\nexec '{}' \"$1\" \"$HOME/run/clockd.pid\"\n",
            control.display()
        );
        fs::write(&program, script).unwrap();
        set_mode(&program, 0o755);
        fs::create_dir(home.path().join("run")).unwrap();
        Self(home)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn pid_file(&self) -> PidFile {
        PidFile::at(self.path().join("run/clockd.pid"))
    }

    fn pid(&self) -> u32 {
        self.pid_file().running().unwrap().expect("it runs")
    }

    /// Runs a line of the guide in the environment that cron(8) sets. Returns its mail: all output
    /// until no process has the pipe.
    fn cron(&self, time: &str) -> String {
        let guide = include_str!("../../docs/guide.md");
        let mut lines = guide.lines();
        let line = lines.find_map(|line| line.strip_prefix(time)).expect(time);
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("exec 2>&1; {}", line.trim()));
        shell.env_clear().current_dir(self.path());
        shell.env("HOME", self.path()).env("LOGNAME", "user");
        shell.env("SHELL", "/bin/sh").env("PATH", "/usr/bin:/bin");
        let output = shell.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.pid_file().stop(time_limit());
    }
}

const AT_BOOT: &str = "@reboot ";
const EVERY_FIVE_MINUTES: &str = "*/5 * * * * ";

fn cron_starts_a_daemon_at_boot_and_again_after_its_death() {
    let home = Home::new();
    assert_eq!(home.cron(AT_BOOT), "");
    let first = home.pid();
    assert_eq!(home.cron(EVERY_FIVE_MINUTES), "");
    assert_eq!(home.pid(), first);
    assert!(home.pid_file().signal(libc::SIGKILL).unwrap());
    // Returns when the daemon has ended.
    home.pid_file().stop(time_limit()).unwrap();
    assert_eq!(home.cron(EVERY_FIVE_MINUTES), "");
    assert_ne!(home.pid(), first);
}

fn cron_mails_the_reason_of_a_failed_start() {
    let home = Home::new();
    fs::remove_dir(home.path().join("run")).unwrap();
    for time in [AT_BOOT, EVERY_FIVE_MINUTES] {
        let mail = home.cron(time);
        assert!(mail.starts_with("control: cannot open pid file "), "{mail}");
        assert!(mail.contains("`Daemonize::directory`"), "{mail}");
    }
}
