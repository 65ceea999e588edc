use std::os::unix::process::CommandExt as _;

use tester::config::ExecPid;
use tester::prelude::*;
use tester::subject;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(supervised_means_an_address_that_is_meant_for_this_process),
    case!(supervised_is_false_in_a_set_user_id_program, needs Root),
];

fn supervised_means_an_address_that_is_meant_for_this_process() {
    let cases = [
        (None, None, false),
        (None, Some(ExecPid::Own), false),
        (None, Some(ExecPid::Parents), false),
        (Some("/nowhere/notify"), None, true),
        (Some("/nowhere/notify"), Some(ExecPid::Own), true),
        (Some("/nowhere/notify"), Some(ExecPid::Parents), false),
        (Some("@nobody"), None, true),
        (Some(""), None, false),
        (Some(""), Some(ExecPid::Own), false),
    ];
    for (address, exec_pid, supervised) in cases {
        let mut scenario = scenario!()
            .foreground(Foreground::IfSupervised)
            .from_state(|state| state.exec_pid = exec_pid);
        if let Some(address) = address {
            scenario = scenario.env(ADDRESS, address);
        }
        let run = scenario.launch();
        let in_foreground = run.report().pid == run.launcher_pid();
        assert_eq!(in_foreground, supervised, "{address:?} {exec_pid:?}");
    }
}

/// The program prints its effective user id, and the result of `supervised`.
fn ask_supervised(program: &Path) -> io::Result<String> {
    let mut command = Command::new(program);
    command
        .arg(subject::PRINT_SUPERVISED)
        .env_remove("SYSTEMD_EXEC_PID")
        .env(ADDRESS, "/nowhere/notify")
        .uid(65534)
        .gid(65534);
    String::from_utf8(command.output()?.stdout).map_err(io::Error::other)
}

fn supervised_is_false_in_a_set_user_id_program() {
    let scenario = scenario!();
    let program = scenario.path("program");
    // Another process copies: a child that this process forks meanwhile would inherit
    // the open copy, and a file that is open for writing cannot be executed.
    let mut copy = Command::new("cp");
    copy.arg(tester::tester!()).arg(&program);
    assert!(copy.status().unwrap().success());
    set_mode(&program, 0o755);
    assert_eq!(ask_supervised(&program).unwrap(), "65534 true\n");
    set_mode(&program, 0o4755);
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o4000, 0o4000);
    // If the first number is not 0, the file system ignores the bit.
    assert_eq!(ask_supervised(&program).unwrap(), "0 false\n");
}
