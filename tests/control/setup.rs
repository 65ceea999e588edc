//! Set-up that the modules of this suite share.

use tester::prelude::*;
use tester::subject::CONTROL_DAEMON;

/// Calls a method of `PidFile` in a process of this user, and returns what the process prints.
#[track_caller]
pub(crate) fn call_as(user: u32, method: &str, scenario: &Scenario) -> String {
    let mut command = Command::new(tester::tester!());
    command.args([CONTROL_DAEMON, method]);
    command.arg(scenario.pid_file_path().unwrap());
    sys::start_as(&mut command, user, user, &[]);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
