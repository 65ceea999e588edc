use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use daemonize2::PidFile;
use tempfile::TempDir;
use tester::case;
use tester::slowness::time_limit;
use tester::suite::{Case, example};

pub(crate) const CASES: &[Case] = &[
    case!(of_ten_clients_one_starts_the_agent, needs Examples),
    case!(a_client_starts_an_agent_that_was_killed, needs Examples),
    case!(a_client_of_an_agent_that_cannot_start_says_why, needs Examples),
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

    fn client(&self) -> Child {
        let mut command = Command::new(example("agent").unwrap());
        command.arg(self.agent()).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.pid_file().stop(time_limit());
    }
}

#[track_caller]
fn answer(client: Child) -> u32 {
    let output = client.wait_with_output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    let pid = stdout.strip_prefix("agent ").expect(&stdout);
    pid.trim_end().parse().unwrap()
}

fn of_ten_clients_one_starts_the_agent() {
    for _ in 0..5 {
        let home = Home::new();
        let clients: Vec<_> = (0..10).map(|_| home.client()).collect();
        let answers: Vec<_> = clients.into_iter().map(answer).collect();
        let agent = home.pid_file().running().unwrap().expect("an agent");
        assert_eq!(answers, [agent; 10]);
    }
}

fn a_client_starts_an_agent_that_was_killed() {
    let home = Home::new();
    let first = answer(home.client());
    assert!(home.pid_file().signal(libc::SIGKILL).unwrap());
    // Returns when the agent has ended.
    home.pid_file().stop(time_limit()).unwrap();
    assert_ne!(answer(home.client()), first);
}

fn a_client_of_an_agent_that_cannot_start_says_why() {
    let home = Home::new();
    // The socket cannot replace a directory.
    std::fs::create_dir_all(home.agent().join("socket/full")).unwrap();
    tester::fixtures::set_mode(&home.agent(), 0o700);
    let output = home.client().wait_with_output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("agent: the initialization failed: Address already in use"),
        "{text}"
    );
}
