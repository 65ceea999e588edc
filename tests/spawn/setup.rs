//! Set-up that the modules of this suite share.

use tester::prelude::*;

/// A start of the tester as another program, with the pid file `daemon.pid`.
pub(crate) fn spawned() -> Scenario {
    daemon!().spawn()
}

/// A start of a shell that runs this script.
pub(crate) fn shell(script: &str) -> Scenario {
    daemon!().spawn_program("/bin/sh", ["-c", script])
}

/// An executable file in the directory of the case.
pub(crate) fn write_program(scenario: &Scenario, name: &str, content: &str) -> PathBuf {
    let path = scenario.path(name);
    fs::write(&path, content).unwrap();
    set_mode(&path, 0o755);
    path
}

/// The error of a program that cannot be executed.
pub(crate) fn cannot_execute(program: &str, errno: i32, reason: &str) -> StartError {
    let text = format!("cannot execute {program}: {}{reason}", errno_text(errno));
    StartError::with_text("ExecuteProgram", errno, Some(program), &text)
}

/// Starts a script, and returns what it writes to the FIFO `output` in its first line. The script
/// is `program`, or an argument of the shell.
#[track_caller]
pub(crate) fn output_of(scenario: &Scenario) -> String {
    let fifo = scenario.path("output");
    if !fifo.exists() {
        sys::make_fifo(&fifo).unwrap();
    }
    let run = scenario.launch();
    run.launcher().assert().success();
    fs::read_to_string(fifo).unwrap()
}

/// A script that writes this to the FIFO, and then sleeps.
pub(crate) fn echo(text: &str, fifo: &str) -> String {
    format!("echo {text} > {fifo}; exec /bin/sleep 1000")
}

/// The program sends this message to its `NOTIFY_SOCKET`.
pub(crate) fn notify(message: impl AsRef<[u8]>) -> Step {
    Step::Notify(Bytes(message.as_ref().to_vec()))
}

/// Starts a program that holds before its last step, which makes it ready.
#[track_caller]
pub(crate) fn assert_launcher_waits_for_the_last(scenario: &Scenario) -> Run {
    let run = scenario.launch();
    run.held();
    run.assert_launcher_waits();
    run.proceed();
    run.launcher().assert().success().stdout("").stderr("");
    run.report();
    run.assert_pid_file_held();
    run
}
