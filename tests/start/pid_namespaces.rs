use std::process::Stdio;

use tester::config::ChildrenNamespace;
use tester::prelude::*;
use tester::subject;

pub(crate) const CASES: &[Case] = &[
    case!(the_first_process_of_a_namespace_cannot_start_a_daemon, needs Root, Mounting, Linux),
    case!(the_first_process_of_a_namespace_may_execute, needs Root, Mounting, Linux),
    case!(the_first_process_of_a_namespace_may_stay_in_the_foreground, needs Root, Mounting, Linux),
    case!(a_daemon_in_another_pid_namespace_is_refused, needs Root, Mounting, Linux, OwnThreads),
];

/// The output of the first process and of its daemon.
#[track_caller]
fn as_first_process(entry: &str) -> String {
    let output = Command::new(tester::tester!())
        .args([subject::START_AS_FIRST_PROCESS, entry])
        .stdin(Stdio::null())
        .output()
        .expect("run it");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn the_first_process_of_a_namespace_cannot_start_a_daemon() {
    let said = as_first_process("start");
    let text = "FirstProcess: cannot start a daemon from pid 1: the exit of pid 1 would end \
                the daemon; use `foreground`\n";
    assert_eq!(said, text);
}

fn the_first_process_of_a_namespace_may_execute() {
    let said = as_first_process("execute");
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    // An emulator adds a thread to each process, which takes a number, too.
    let pid = lines[0].strip_prefix("launcher: daemon ").expect("a pid");
    assert_eq!(lines[1..], ["pid 1", &format!("pid {pid}")], "{said}");
}

fn the_first_process_of_a_namespace_may_stay_in_the_foreground() {
    assert_eq!(as_first_process("foreground"), "pid 1\n");
}

fn a_daemon_in_another_pid_namespace_is_refused() {
    for (namespace, cause) in [
        (
            ChildrenNamespace::New,
            "the intermediate process is pid 1 in that namespace",
        ),
        (
            ChildrenNamespace::WithFirst,
            "the launcher cannot determine the pid",
        ),
    ] {
        for entry in CHECKED {
            let scenario = daemon!()
                .entry(entry)
                .from_state(|state| state.children_namespace = Some(namespace));
            let error = scenario.launch().launcher_error();
            assert_eq!(error.kind, "PidNamespace", "{error}");
            assert!(error.text.contains(cause), "{error}");
        }
    }
}
