use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use daemonize2::PidFile;
use tempfile::TempDir;
use tester::slowness::time_limit;
use tester::suite::{Case, example};
use tester::{case, sys};

pub(crate) const CASES: &[Case] = &[
    case!(of_ten_clients_one_starts_the_agent, needs Examples),
    case!(an_agent_keeps_each_secret_until_it_ends, needs Examples),
    case!(an_agent_that_was_killed_is_started_again_without_its_secrets, needs Examples),
    case!(a_client_of_an_agent_that_cannot_start_says_why, needs Examples),
    case!(an_agent_hides_its_memory, needs Examples, Linux),
];

/// The directory of an agent. Dropping this stops the agent.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::with_prefix("agent-").unwrap())
    }

    fn agent(&self) -> PathBuf {
        self.0.path().join("agent")
    }

    fn pid_file(&self) -> PidFile {
        PidFile::at(self.agent().join("pid"))
    }

    fn pid(&self) -> u32 {
        self.pid_file().running().unwrap().expect("an agent")
    }

    fn client(&self, arguments: &[&str], input: &[u8]) -> Child {
        let mut command = Command::new(example("agent").unwrap());
        let command = command.arg(self.agent()).args(arguments);
        let command = command.stdin(Stdio::piped());
        let mut client = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(input).unwrap();
        client
    }

    #[track_caller]
    fn put(&self, name: &str, secret: &[u8]) {
        assert_succeeds(self.client(&["put", name], secret), b"");
    }

    fn get(&self, name: &str) -> Output {
        self.client(&["get", name], b"").wait_with_output().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.pid_file().stop(time_limit());
    }
}

#[track_caller]
fn assert_succeeds(client: Child, output: &[u8]) {
    let result = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success() && text.is_empty(), "{text}");
    assert_eq!(result.stdout, output);
}

#[track_caller]
fn assert_fails(output: &Output, start: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.starts_with(start),
        "{text}"
    );
}

/// A second agent would have some of the secrets.
fn of_ten_clients_one_starts_the_agent() {
    for _ in 0..5 {
        let home = Home::new();
        let names: Vec<_> = (0..10).map(|number| format!("name {number}")).collect();
        let clients = names.iter();
        let clients = clients.map(|name| home.client(&["put", name], name.as_bytes()));
        let clients: Vec<_> = clients.collect();
        for client in clients {
            assert_succeeds(client, b"");
        }
        for name in &names {
            assert_succeeds(home.client(&["get", name], b""), name.as_bytes());
        }
    }
}

fn an_agent_keeps_each_secret_until_it_ends() {
    let home = Home::new();
    home.put("bank", b"one\n\0two");
    home.put("mail", &[7; 4095]);
    home.put("bank", b"three");
    assert_eq!(home.get("bank").stdout, b"three");
    assert_eq!(home.get("mail").stdout, [7; 4095]);
    assert_fails(&home.get("other"), "agent: the agent has no secret other");
    let long = home.client(&["put", "mail"], &[8; 4096]);
    let text = "agent: the agent cannot keep the secret: it is longer than 4095 bytes";
    assert_fails(&long.wait_with_output().unwrap(), text);
    assert_eq!(home.get("mail").stdout, [7; 4095]);
    let stop = home.client(&["stop"], b"");
    assert_succeeds(stop, b"");
    assert_eq!(home.pid_file().running().unwrap(), None);
    assert_fails(&home.get("bank"), "agent: the agent has no secret bank");
}

fn an_agent_that_was_killed_is_started_again_without_its_secrets() {
    let home = Home::new();
    home.put("bank", b"one");
    let first = home.pid();
    assert!(home.pid_file().signal(libc::SIGKILL).unwrap());
    // Returns when the agent has ended.
    home.pid_file().stop(time_limit()).unwrap();
    assert_fails(&home.get("bank"), "agent: the agent has no secret bank");
    assert_ne!(home.pid(), first);
}

fn a_client_of_an_agent_that_cannot_start_says_why() {
    let home = Home::new();
    // The socket cannot replace a directory.
    fs::create_dir_all(home.agent().join("socket/full")).unwrap();
    tester::fixtures::set_mode(&home.agent(), 0o700);
    let text = "agent: the initialization failed: Address already in use";
    assert_fails(&home.get("bank"), text);
}

fn an_agent_hides_its_memory() {
    let home = Home::new();
    home.put("bank", b"one");
    let pid = home.pid();
    let of_agent = |file: &str| format!("/proc/{pid}/{file}");
    let line = |file: &str, start: &str| {
        let text = fs::read_to_string(of_agent(file)).unwrap();
        let line = text.lines().find(|line| line.starts_with(start));
        line.expect(start)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("status", "VmLck:"), "VmLck: 4 kB");
    if sys::effective_user() == 0 {
        let limit = line("limits", "Max core file size");
        assert!(limit.contains(" 0 0 "), "{limit}");
    } else {
        // The files of a process that is not dumpable belong to root.
        let error = fs::File::open(of_agent("mem")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
