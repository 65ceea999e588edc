//! A server of an example that is upgraded.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Instant;

use daemonize2::PidFile;
use tempfile::TempDir;
use tester::slowness::time_limit;
use tester::suite::example;

/// The example, by a link that the test may replace. Dropping this stops the daemon.
pub(crate) struct Server {
    directory: TempDir,
    address: String,
    /// The daemon keeps the standard error of the launcher.
    messages: BufReader<ChildStderr>,
}

/// The first number in an answer, which is the pid of the process that serves, and the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) pid: u32,
    pub(crate) generation: u32,
}

impl Server {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let directory = TempDir::with_prefix("upgrade-").unwrap();
        symlink(example(name).unwrap(), directory.path().join("server")).unwrap();
        let launcher = command(directory.path(), arguments);
        Self::launch(directory, launcher)
    }

    pub(crate) fn launch(directory: TempDir, mut launcher: Command) -> Self {
        let launcher = launcher.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut launcher = launcher.spawn().unwrap();
        let mut text = String::new();
        let mut stdout = launcher.stdout.take().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        assert!(launcher.wait().unwrap().success());
        let address = text.trim_end().strip_prefix("listening on ");
        Self {
            directory,
            address: address.expect(&text).to_owned(),
            messages: BufReader::new(launcher.stderr.take().unwrap()),
        }
    }

    #[track_caller]
    pub(crate) fn assert_says(&mut self, expected: &str) {
        let mut line = String::new();
        self.messages.read_line(&mut line).unwrap();
        assert!(line.contains(expected), "{line:?}");
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn pid_file(&self) -> PidFile {
        PidFile::at(self.directory().join("server.pid"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid_file()
            .running()
            .unwrap()
            .expect("a running daemon")
    }

    pub(crate) fn answer(&self) -> Answer {
        let mut text = String::new();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.read_to_string(&mut text).unwrap();
        let is_digit = |character: char| character.is_ascii_digit();
        let numbers = text.split(|character| !is_digit(character));
        let mut numbers = numbers.filter_map(|number| number.parse().ok());
        match (numbers.next(), numbers.next_back()) {
            (Some(pid), Some(generation)) => Answer { pid, generation },
            _ => panic!("{text:?}"),
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        assert!(self.pid_file().signal(signal).unwrap());
    }

    /// Waits for the answer of a program of this generation. Returns the pid of the process.
    pub(crate) fn await_generation(&self, generation: u32) -> u32 {
        let deadline = Instant::now() + time_limit();
        loop {
            // Each answer comes from a program that has begun to serve.
            let answer = self.answer();
            if answer.generation == generation {
                return answer.pid;
            }
            assert!(
                answer.generation < generation && Instant::now() < deadline,
                "{answer:?}"
            );
        }
    }

    /// Replaces the program by false(1).
    pub(crate) fn break_program(&self) {
        let mut programs = ["/bin/false", "/usr/bin/false"].into_iter();
        let program = programs.find(|path| Path::new(path).exists());
        self.replace_program(program.expect("false(1)"));
    }

    pub(crate) fn replace_program(&self, program: impl AsRef<Path>) {
        let new = self.directory().join("server.next");
        symlink(program, &new).unwrap();
        fs::rename(new, self.directory().join("server")).unwrap();
    }
}

/// The server of this directory, with a pid file and more arguments.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(directory.join("server"));
    command
        .arg(directory.join("server.pid"))
        .args(arguments)
        .stdin(Stdio::null());
    command
}

impl Drop for Server {
    /// A daemon that is stopped while it starts its successor ends afterwards, and leaves the
    /// successor.
    fn drop(&mut self) {
        while self.pid_file().stop(time_limit()).unwrap_or(false) {}
    }
}
