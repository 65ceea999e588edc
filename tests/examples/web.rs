use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;
use std::{fs, io};

use daemonize2::{PidFile, Signal};
use tempfile::TempDir;
use tester::case;
use tester::fixtures::set_mode;
use tester::harness::DEADLINE;
use tester::suite::{Case, example};

pub(crate) const CASES: &[Case] = &[
    case!(a_web_server_prints_its_address_and_answers, needs Examples),
    case!(a_web_server_reopens_a_log_file_that_was_renamed, needs Examples),
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
        write!(stream, "GET {path} HTTP/1.1\r\nHost: web\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.pid_file().stop(DEADLINE);
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
    assert_eq!(
        fs::read_to_string(web.log("access.log")).unwrap(),
        "GET /one HTTP/1.1\n"
    );
    assert_eq!(fs::read_to_string(web.log("error.log")).unwrap(), "");
}

fn a_web_server_reopens_a_log_file_that_was_renamed() {
    let web = Web::start("127.0.0.1:0", None);
    web.get("/before").unwrap();
    fs::rename(web.log("access.log"), web.log("access.log.1")).unwrap();
    assert!(web.pid_file().signal(Signal::HUP).unwrap());
    let deadline = Instant::now() + DEADLINE;
    let mut requests = 1;
    while !web.log("access.log").exists() {
        assert!(Instant::now() < deadline, "no new log file");
        web.get("/between").unwrap();
        requests += 1;
    }
    web.get("/after").unwrap();
    requests += 1;
    let [old, new] =
        ["access.log.1", "access.log"].map(|name| fs::read_to_string(web.log(name)).unwrap());
    assert!(old.starts_with("GET /before "), "{old}");
    assert!(new.ends_with("GET /after HTTP/1.1\n"), "{new}");
    assert_eq!(old.lines().count() + new.lines().count(), requests);
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
    let deadline = Instant::now() + DEADLINE;
    while !web.log("access.log").exists() {
        assert!(Instant::now() < deadline, "no new log file");
        web.get("/").unwrap();
    }
}
