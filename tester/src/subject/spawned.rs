//! The tester as the program that a start executes.

use std::env;
use std::io;
use std::process::ExitCode;

use daemonize2::{Daemonize, Program};

use super::closures::Product;
use super::{Returned, expect, obey, own_report, send, within};
use crate::config::{Bytes, Config, Life, ProgramReadiness, Step};
use crate::control::Message;
use crate::observe;
use crate::report::LauncherResult;
use crate::slowness::time_limit;
use crate::sys::{self, Mark};
use crate::wire;

/// The arguments of [`run_spawned`] are this, its steps, and the exit status, if the program is to
/// exit.
pub const SPAWNED: &str = "spawned";

pub(super) fn spawn(daemonize: Daemonize<()>, config: &Config) -> Returned {
    let daemonize = match config.privileged_action {
        Some(_) => daemonize.privileged_action(|| ()),
        None => daemonize,
    };
    expect(
        sys::count_calls_of_children(),
        "count the calls of the allocator",
    );
    for _ in 0..config.program.starts_before {
        start_before();
    }
    let program = program(config);
    let result = within(Mark::Return, || daemonize.spawn(program));
    let counted = match sys::calls_of_children() {
        0 => Ok(()),
        calls => Err(io::Error::other(format!("{calls} calls of the allocator"))),
    };
    expect(counted, "start a program without an allocation");
    Returned::Launcher(result.map(|parent| LauncherResult::from(&parent)))
}

/// Starts a daemon that ends when it reads the end of file.
fn start_before() {
    let (ours, daemons) = expect(sys::socket_pair(), "make a pair of sockets");
    let started = Daemonize::new()
        .stdin(daemons)
        .startup_timeout(time_limit())
        .spawn(Program::new("cat"));
    expect(started.map_err(io::Error::other), "start a daemon before");
    drop(ours);
}

fn program(config: &Config) -> Program {
    let described = &config.program;
    let mut program = match &described.path {
        Some(path) => {
            let arguments = described.arguments.iter().map(Bytes::to_path);
            Program::new(path.to_path()).args(arguments)
        }
        None => {
            let itself = expect(env::current_exe(), "find itself");
            let steps = to_hexadecimal(&wire::encode(&described.steps));
            let program = Program::new(itself).args([SPAWNED, &*steps]);
            match config.life {
                Life::Exit(status) => program.arg(status.to_string()),
                Life::UntilCommand | Life::UntilCommandEvenIfFailed => program,
            }
        }
    };
    if described.clears_environment {
        program = program.env_clear();
    }
    program = match described.readiness {
        ProgramReadiness::Execution => program,
        ProgramReadiness::NotifySocket => program.notify_socket(),
        ProgramReadiness::NotificationFd(number) => program.notification_fd(number),
    };
    for (name, value) in &described.environment {
        program = match value {
            Some(value) => program.env(name.to_path(), value.to_path()),
            None => program.env_remove(name.to_path()),
        };
    }
    program
}

fn to_hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Does its steps, reports as the daemon, and obeys commands or exits.
pub fn run_spawned(steps: &str, status: Option<&str>) -> ExitCode {
    sys::mark(Mark::Return);
    expect(observe::prepare(), "prepare to observe itself");
    let steps = from_hexadecimal(steps).ok_or("no bytes".to_owned());
    let steps = steps
        .and_then(|bytes| wire::decode::<Vec<Step>>(&bytes).map_err(|error| error.to_string()));
    let steps = expect(steps.map_err(io::Error::other), "read its steps");
    let product = Product::default().made_by(&steps);
    send(Message::Daemon(own_report()));
    if !product.parts.is_empty() {
        send(Message::Result(product.parts));
    }
    match status.and_then(|status| status.parse::<u8>().ok()) {
        Some(status) => ExitCode::from(status),
        None => obey(None),
    }
}
