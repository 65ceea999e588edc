//! Runs a [contest](crate::contest).

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::case::{SPAWNING, kill_all, next_number, token};
use crate::contest::{CONTEND, Leaving, MEDDLE, Meddling};
use crate::control::{self, Frame, Receiver};
use crate::slowness::{scaled, time_limit};
use crate::sys;

/// The environment variable with the duration of a contest in seconds. The default is 1.
const SECONDS: &str = "TESTER_RACE_SECONDS";

/// Without a pause, the probe would take all the time of the processors.
const BETWEEN_PROBES: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub struct Contest {
    binary: PathBuf,
    path: PathBuf,
    leaving: Leaving,
    meddlers: Vec<(Meddling, Option<u32>)>,
}

#[derive(Debug)]
pub struct Contested {
    pub frames: Vec<Frame>,
    /// The process ids that the probe has found.
    pub found: BTreeSet<u32>,
    /// Whether each meddler has done its deed at least once.
    pub all_have_meddled: bool,
}

impl Contest {
    /// A contest of processes that run `binary`, the tester, for the pid file at `path`.
    pub fn new(binary: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            path: path.into(),
            leaving: Leaving::Variously,
            meddlers: Vec::new(),
        }
    }

    /// What the daemons do with the pid file when they end.
    #[must_use]
    pub fn leaving(mut self, leaving: Leaving) -> Self {
        self.leaving = leaving;
        self
    }

    /// Adds a meddler, with the identity of `user` if that is given.
    #[must_use]
    pub fn meddler(mut self, meddling: Meddling, user: Option<u32>) -> Self {
        self.meddlers.push((meddling, user));
        self
    }

    /// Runs 32 contenders until all have ended. Meanwhile, `probe` is called again and again.
    pub fn run(&self, probe: impl Fn() -> Option<u32> + Sync) -> Contested {
        const CONTENDERS: usize = 32;
        let time = duration();
        let mut crowd = Crowd {
            token: token(next_number()),
            control: None,
            children: Vec::new(),
        };
        let spawning = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let (ours, theirs) = sys::socket_pair().expect("create the control socket");
        let ours = Arc::new(ours);
        crowd.control = Some(Arc::clone(&ours));
        for &(meddling, user) in &self.meddlers {
            let mut command = self.command(MEDDLE, time, &format!("{meddling:?}"), &crowd.token);
            if let Some(user) = user {
                command.uid(user).gid(user);
            }
            crowd.add(&mut command);
        }
        let meddlers = crowd.children.len();
        for _ in 0..CONTENDERS {
            let manner = format!("{:?}", self.leaving);
            let mut command = self.command(CONTEND, time, &manner, &crowd.token);
            sys::pass_descriptor(&mut command, theirs.as_fd(), control::CONTROL);
            crowd.add(&mut command);
        }
        drop(theirs);
        drop(spawning);

        thread::scope(|scope| {
            // Dropped at the end of the scope, and also by a panic.
            let (over, is_over) = mpsc::channel::<()>();
            let probe = &probe;
            let prober = scope.spawn(move || {
                let mut found = BTreeSet::new();
                while is_over.recv_timeout(BETWEEN_PROBES) == Err(RecvTimeoutError::Timeout) {
                    found.extend(probe());
                }
                found
            });
            let frames = listen(ours, Instant::now() + time + time_limit());
            drop(over);
            let statuses: Vec<_> = crowd.children[..meddlers]
                .iter_mut()
                .map(|meddler| meddler.wait().expect("wait for a meddler"))
                .collect();
            Contested {
                frames,
                found: prober.join().expect("the probe does not panic"),
                all_have_meddled: statuses.iter().all(ExitStatus::success),
            }
        })
    }

    fn command(&self, role: &str, time: Duration, manner: &str, token: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg(role)
            .arg(time.as_millis().to_string())
            .arg(&self.path)
            .arg(manner)
            .current_dir(self.path.parent().unwrap_or(Path::new("/")))
            .stdin(Stdio::null())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SYSTEMD_EXEC_PID")
            .env(control::TOKEN, token);
        command
    }
}

fn duration() -> Duration {
    let seconds = std::env::var(SECONDS).ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    scaled(Duration::from_secs(seconds.unwrap_or(1)))
}

/// All frames until the last contender and its last daemon have ended.
fn listen(control: Arc<OwnedFd>, deadline: Instant) -> Vec<Frame> {
    let (sender, frames) = mpsc::channel();
    thread::spawn(move || {
        let mut receiver = Receiver::new(control.as_fd());
        while let Ok(Some(frame)) = receiver.frame() {
            if sender.send(frame).is_err() {
                break;
            }
        }
    });
    let mut heard = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match frames.recv_timeout(left) {
            Ok(frame) => heard.push(frame),
            Err(RecvTimeoutError::Disconnected) => return heard,
            Err(RecvTimeoutError::Timeout) => panic!("the contest does not end"),
        }
    }
}

/// All processes of a contest. Dropping it kills whatever is left.
struct Crowd {
    token: String,
    control: Option<Arc<OwnedFd>>,
    children: Vec<Child>,
}

impl Crowd {
    fn add(&mut self, command: &mut Command) {
        self.children
            .push(command.spawn().expect("start the tester"));
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(control) = &self.control {
            sys::shut_down(control.as_fd());
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let killed = kill_all(&self.token);
        if !thread::panicking() {
            killed.expect("clean up");
        }
    }
}
