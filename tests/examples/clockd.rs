//! The program of the README does what the README says.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use assert_cmd::assert::OutputAssertExt as _;
use daemonize2::PidFile;
use tempfile::TempDir;
use tester::case;
use tester::slowness::time_limit;
use tester::suite::{Case, example};

pub(crate) const CASES: &[Case] = &[
    case!(the_readme_has_the_program_of_the_example),
    case!(a_clock_serves_logs_and_refuses_a_second_start, needs Examples, OrdinaryUser),
];

/// The example is in a module.
fn the_readme_has_the_program_of_the_example() {
    fn lines(text: &str) -> impl Iterator<Item = &str> {
        text.lines()
            .map(|line| line.trim().trim_start_matches("pub(super) "))
    }

    let (_, program) = include_str!("../../README.md")
        .split_once("```rust,no_run\n")
        .expect("a program");
    let (program, _) = program.split_once("```").expect("the end of the program");
    let mut example = lines(include_str!("../../examples/clockd.rs"));
    for line in lines(program) {
        assert!(
            example.any(|other| other == line),
            "not in the example: {line}"
        );
    }
}

fn a_clock_serves_logs_and_refuses_a_second_start() {
    let home = TempDir::with_prefix("clockd-").unwrap();
    let pid_file = PidFile::at(home.path().join("clockd/clockd.pid"));
    let output = clockd(home.path());
    let second = clockd(home.path());
    let pid = pid_file.running().unwrap().expect("a daemon");
    let address = String::from_utf8(output.stdout.clone()).unwrap();
    let address = address.strip_prefix("listening on ").unwrap().trim_end();
    let mut answer = String::new();
    TcpStream::connect(address)
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    assert!(pid_file.stop(time_limit()).unwrap());

    output.clone().assert().success().stderr("");
    second.assert().code(1).stdout("").stderr(format!(
        "clockd: cannot lock pid file {}: held by running daemon {pid}\n",
        home.path().join("clockd/clockd.pid").display()
    ));
    assert!(answer.starts_with("SystemTime"), "{answer}");
    let log = fs::read_to_string(home.path().join("log/clockd/clockd.log")).unwrap();
    let serving = format!("serving on {address}\nclient 127.0.0.1:");
    assert!(log.starts_with(&serving), "{log}");
}

fn clockd(home: &Path) -> std::process::Output {
    Command::new(example("clockd").unwrap())
        .arg("127.0.0.1:0")
        .stdin(Stdio::null())
        .env("XDG_RUNTIME_DIR", home)
        .env("XDG_STATE_HOME", home)
        .output()
        .unwrap()
}
