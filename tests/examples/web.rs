use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use std::{fs, io, thread};

use daemonize2::{PidFile, Signal};
use tempfile::TempDir;
use tester::case;
use tester::fixtures::{rotate_logs, rotated, set_mode};
use tester::slowness::time_limit;
use tester::suite::{Case, example};

pub(crate) const CASES: &[Case] = &[
    case!(a_web_server_prints_its_address_and_answers, needs Examples),
    case!(a_web_server_reopens_a_log_file_that_was_renamed, needs Examples),
    case!(a_web_server_loses_no_request_while_logrotate_runs, needs Examples, Logrotate),
    case!(a_web_server_that_cannot_bind_its_port_says_so, needs Examples),
    case!(a_web_server_of_root_has_port_80_and_no_privileges, needs Examples, Root, Linux),
];

/// The example `web`, with a directory of its own. Dropping this stops the server.
struct Web {
    home: TempDir,
    address: String,
}

impl Web {
    fn start(address: &str, user: Option<&str>) -> Self {
        let home = TempDir::with_prefix("web-").unwrap();
        set_mode(home.path(), 0o755);
        let output = launch(&home, address, user);
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && stderr.is_empty(), "{stderr}");
        let address = stdout.strip_prefix("listening on ").expect(&stdout);
        let address = address.trim_end().to_owned();
        Self { home, address }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.home.path().join("log").join(name)
    }

    fn pid_file(&self) -> PidFile {
        PidFile::at(self.home.path().join("run/web.pid"))
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.pid_file().stop(time_limit());
    }
}

fn launch(home: &TempDir, address: &str, user: Option<&str>) -> Output {
    let mut command = Command::new(example("web").unwrap());
    command.arg(home.path()).arg(address).args(user);
    command.stdin(Stdio::null()).output().unwrap()
}

fn a_web_server_prints_its_address_and_answers() {
    let web = Web::start("127.0.0.1:0", None);
    let pid = web.pid_file().running().unwrap().expect("it runs");
    let answer = web.get("/one").unwrap();
    assert!(
        answer.ends_with(&format!("\r\n\r\nhello from process {pid}\n")),
        "{answer}"
    );
    let log = fs::read_to_string(web.log("access.log")).unwrap();
    assert!(
        log.ends_with(" INFO request method=GET uri=/one\n"),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1);
    assert_eq!(fs::read_to_string(web.log("error.log")).unwrap(), "");
}

fn a_web_server_reopens_a_log_file_that_was_renamed() {
    let web = Web::start("127.0.0.1:0", None);
    web.get("/before").unwrap();
    fs::rename(web.log("access.log"), web.log("access.log.1")).unwrap();
    assert!(web.pid_file().signal(Signal::HUP).unwrap());
    // The server creates the new file before it writes to it.
    let has_new = || fs::metadata(web.log("access.log")).is_ok_and(|file| file.len() > 0);
    let deadline = Instant::now() + time_limit();
    let mut requests = 1;
    while !has_new() {
        assert!(Instant::now() < deadline, "no line in a new log file");
        web.get("/between").unwrap();
        requests += 1;
    }
    web.get("/after").unwrap();
    requests += 1;
    let [old, new] =
        ["access.log.1", "access.log"].map(|name| fs::read_to_string(web.log(name)).unwrap());
    assert!(
        old.lines().next().unwrap().ends_with("uri=/before"),
        "{old}"
    );
    assert!(new.ends_with("uri=/after\n"), "{new}");
    assert_eq!(old.lines().count() + new.lines().count(), requests);
}

fn a_web_server_loses_no_request_while_logrotate_runs() {
    let web = Web::start("127.0.0.1:0", None);
    let pid_file = web.home.path().join("run/web.pid").display().to_string();
    let directives =
        format!("    postrotate\n        kill -HUP $(cat {pid_file})\n    endscript\n");
    let path = web.log("access.log");
    let is_done = AtomicBool::new(false);
    let requests = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let requests = (0..).take_while(|number| {
                web.get(&format!("/{number}")).unwrap();
                !is_done.load(Ordering::Relaxed)
            });
            requests.count() + 1
        });
        for _ in 0..5 {
            rotate_logs(web.home.path(), &web.home.path().join("log"), &directives);
            let deadline = Instant::now() + time_limit();
            while !path.exists() {
                assert!(Instant::now() < deadline, "no new log file");
                thread::yield_now();
            }
        }
        is_done.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    let files = rotated(&path);
    assert_eq!(files.len(), 6, "{files:?}");
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let text: String = texts.collect();
    for (number, line) in text.lines().enumerate() {
        assert!(line.ends_with(&format!(" uri=/{number}")), "{line}");
    }
    assert_eq!(text.lines().count(), requests);
}

fn a_web_server_that_cannot_bind_its_port_says_so() {
    let web = Web::start("127.0.0.1:0", None);
    let home = TempDir::with_prefix("web-").unwrap();
    let output = launch(&home, &web.address, None);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("web: the privileged action failed: Address already in use"),
        "{text}"
    );
}

fn a_web_server_of_root_has_port_80_and_no_privileges() {
    // An address of this test alone.
    let web = Web::start("127.42.80.1:80", Some("nobody"));
    assert_eq!(web.address, "127.42.80.1:80");
    let pid = web.pid_file().running().unwrap().expect("it runs");
    web.get("/").unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |name: &str| {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.expect(name)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(!value("Uid:").split(' ').any(|uid| uid == "0"), "{status}");
    assert_eq!(value("CapPrm:"), "0000000000000000");
    // The daemon owns its log files, so that it reopens them.
    fs::rename(web.log("access.log"), web.log("access.log.1")).unwrap();
    assert!(web.pid_file().signal(Signal::HUP).unwrap());
    let deadline = Instant::now() + time_limit();
    while !web.log("access.log").exists() {
        assert!(Instant::now() < deadline, "no new log file");
        web.get("/").unwrap();
    }
}
