use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use daemonize2::{PidFile, Signal};
use tempfile::TempDir;
use tester::case;
use tester::fixtures::set_mode;
use tester::slowness::time_limit;
use tester::suite::{Case, TEST_USER, TEST_USER_ID, example};
use tester::sys::ProcessHandle;

pub(crate) const CASES: &[Case] = &[
    case!(a_proxy_forwards_connections_when_its_launcher_exits, needs Examples),
    case!(a_proxy_that_cannot_bind_its_port_says_so, needs Examples),
    case!(a_proxy_opens_its_error_log_again, needs Examples),
    case!(a_proxy_ends_with_its_last_connection_after_sigquit, needs Examples),
    case!(a_proxy_ends_at_once_after_sigterm, needs Examples),
    case!(a_proxy_refuses_no_connection_during_upgrades, needs Examples),
    case!(a_proxy_outlives_a_failed_successor, needs Examples),
    case!(a_proxy_of_root_is_upgraded_as_its_user, needs Examples, Root, TestUser, Linux),
];

/// A server that echoes, without an end: the test ends with its threads.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            thread::spawn(move || io::copy(&mut client.try_clone().unwrap(), &mut client));
        }
    });
    address
}

/// The example, by a link that the test may replace. Dropping this stops the daemon.
struct Proxy {
    home: TempDir,
    address: String,
}

impl Proxy {
    fn start(upstream: SocketAddr) -> Self {
        let home = home();
        symlink(example("proxy").unwrap(), home.path().join("proxy")).unwrap();
        let output = launch(&home, "127.0.0.1:0", upstream, &[]);
        Self::started(home, output)
    }

    fn started(home: TempDir, output: Output) -> Self {
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && stderr.is_empty(), "{stderr}");
        let address = stdout.trim_end().strip_prefix("listening on ");
        let address = address.expect(&stdout).to_owned();
        Self { home, address }
    }

    fn pid_file(&self) -> PidFile {
        PidFile::at(self.home.path().join("run/proxy.pid"))
    }

    fn process(&self) -> ProcessHandle {
        let pid = self.pid_file().running().unwrap().expect("it runs");
        ProcessHandle::open(pid).unwrap().expect("it runs")
    }

    fn signal(&self, signal: Signal) {
        assert!(self.pid_file().signal(signal).unwrap());
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    fn error_log(&self) -> PathBuf {
        self.home.path().join("log/error.log")
    }

    /// Replaces the program file.
    fn install(&self, program: impl AsRef<Path>) {
        let new = self.home.path().join("new");
        symlink(program, &new).unwrap();
        fs::rename(new, self.home.path().join("proxy")).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.pid_file().stop(time_limit());
    }
}

fn home() -> TempDir {
    let home = TempDir::with_prefix("proxy-").unwrap();
    set_mode(home.path(), 0o755);
    home
}

fn launch(home: &TempDir, address: &str, upstream: SocketAddr, identity: &[&str]) -> Output {
    let mut command = Command::new(home.path().join("proxy"));
    command.arg(home.path()).arg(address);
    command.arg(upstream.to_string()).args(identity);
    command.stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_echoes(client: &mut TcpStream) {
    client.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

#[track_caller]
fn assert_ends(process: &ProcessHandle) {
    assert!(process.wait(Instant::now() + time_limit()).unwrap());
}

/// Waits for a file whose text is accepted.
#[track_caller]
fn await_text(path: &Path, is_accepted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + time_limit();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if is_accepted(&text) {
            return;
        }
        assert!(Instant::now() < deadline, "{text:?}");
        thread::yield_now();
    }
}

fn a_proxy_forwards_connections_when_its_launcher_exits() {
    let proxy = Proxy::start(echo());
    let mut clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    clients.iter_mut().for_each(assert_echoes);
    // The end of one direction leaves the other one open.
    let mut client = proxy.connect();
    client.write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "last");
}

fn a_proxy_that_cannot_bind_its_port_says_so() {
    let upstream = echo();
    let home = home();
    symlink(example("proxy").unwrap(), home.path().join("proxy")).unwrap();
    let output = launch(&home, &upstream.to_string(), upstream, &[]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let start = "proxy: the privileged action failed: Address already in use";
    assert!(text.starts_with(start), "{text}");
}

fn a_proxy_opens_its_error_log_again() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let upstream = nobody.local_addr().unwrap();
    drop(nobody);
    let proxy = Proxy::start(upstream);
    let fail = || assert_eq!(proxy.connect().read(&mut [0]).unwrap(), 0);
    let message = format!("cannot connect to {upstream}: ");
    fail();
    await_text(&proxy.error_log(), |text| text.starts_with(&message));
    fs::rename(proxy.error_log(), proxy.home.path().join("log/error.log.1")).unwrap();
    proxy.signal(Signal::HUP);
    // The proxy creates the new file.
    let deadline = Instant::now() + time_limit();
    while !proxy.error_log().exists() {
        assert!(Instant::now() < deadline, "no new log file");
        thread::yield_now();
    }
    fail();
    await_text(&proxy.error_log(), |text| text.starts_with(&message));
}

fn a_proxy_ends_with_its_last_connection_after_sigquit() {
    let proxy = Proxy::start(echo());
    let process = proxy.process();
    let mut client = proxy.connect();
    assert_echoes(&mut client);
    proxy.signal(Signal::QUIT);
    let deadline = Instant::now() + time_limit();
    while TcpStream::connect(&proxy.address).is_ok() {
        assert!(Instant::now() < deadline, "it accepts connections");
    }
    assert_echoes(&mut client);
    assert!(!process.wait(Instant::now()).unwrap());
    drop(client);
    assert_ends(&process);
}

fn a_proxy_ends_at_once_after_sigterm() {
    for signals in [&[Signal::TERM][..], &[Signal::QUIT, Signal::TERM]] {
        let proxy = Proxy::start(echo());
        let process = proxy.process();
        let mut client = proxy.connect();
        assert_echoes(&mut client);
        signals.iter().for_each(|&signal| proxy.signal(signal));
        assert_ends(&process);
    }
}

fn a_proxy_refuses_no_connection_during_upgrades() {
    let proxy = Proxy::start(echo());
    let is_done = AtomicBool::new(false);
    let mut old = proxy.connect();
    assert_echoes(&mut old);
    let first = proxy.process();
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                assert_echoes(&mut proxy.connect());
            }
        });
        for _ in 0..3 {
            let former = proxy.process();
            proxy.signal(Signal::USR2);
            if former.pid() != first.pid() {
                assert_ends(&former);
            } else {
                await_successor(&proxy, &former);
            }
        }
        is_done.store(true, Ordering::Relaxed);
        client.join().unwrap();
    });
    // The first proxy lives as long as its connection.
    assert_echoes(&mut old);
    drop(old);
    assert_ends(&first);
}

fn await_successor(proxy: &Proxy, former: &ProcessHandle) {
    let deadline = Instant::now() + time_limit();
    while proxy.process().pid() == former.pid() {
        assert!(Instant::now() < deadline, "no successor");
        thread::yield_now();
    }
}

fn a_proxy_outlives_a_failed_successor() {
    let proxy = Proxy::start(echo());
    let process = proxy.process();
    let programs = ["/bin/false", "/usr/bin/false", "/missing"];
    for (program, message) in [
        (
            programs[..2].iter().find(|path| Path::new(path).exists()),
            "the successor has failed\n",
        ),
        (programs.last(), "cannot start the successor: "),
    ] {
        proxy.install(program.expect("false(1)"));
        proxy.signal(Signal::USR2);
        await_text(&proxy.error_log(), |text| text.contains(message));
        assert_echoes(&mut proxy.connect());
    }
    assert_eq!(proxy.process().pid(), process.pid());
    proxy.install(example("proxy").unwrap());
    proxy.signal(Signal::USR2);
    assert_ends(&process);
    assert_echoes(&mut proxy.connect());
}

fn a_proxy_of_root_is_upgraded_as_its_user() {
    let home = home();
    // The user may not reach the build directory. Another process writes the copy: a file that a
    // child of another thread has open for writing cannot be executed.
    let mut copy = Command::new("cp");
    copy.arg(example("proxy").unwrap())
        .arg(home.path().join("proxy"));
    assert!(copy.status().unwrap().success());
    // An address of this test alone.
    let output = launch(&home, "127.42.80.2:80", echo(), &[TEST_USER, TEST_USER]);
    let proxy = Proxy::started(home, output);
    for _ in 0..2 {
        let former = proxy.process();
        assert_echoes(&mut proxy.connect());
        let status = fs::read_to_string(format!("/proc/{}/status", former.pid())).unwrap();
        for name in ["Uid", "Gid"] {
            let ids = [TEST_USER_ID; 4].map(|id| format!("\t{id}")).concat();
            assert!(status.contains(&format!("\n{name}:{ids}\n")), "{status}");
        }
        assert!(status.contains("\nCapPrm:\t0000000000000000\n"), "{status}");
        proxy.signal(Signal::USR2);
        assert_ends(&former);
    }
}
