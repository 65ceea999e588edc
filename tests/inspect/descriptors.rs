use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_closed_stream_is_found),
    case!(an_input_that_is_not_the_null_device_is_found),
    case!(an_output_to_a_log_file_is_no_finding),
    case!(a_log_file_that_was_deleted_is_found, needs Linux),
    case!(a_file_that_never_had_a_name_is_no_finding, needs Linux),
    case!(a_file_that_every_user_may_write_is_found, needs Linux),
    case!(a_pipe_that_nobody_reads_is_found, needs Root, Linux, Tracing),
    case!(a_pipe_whose_reader_may_be_hidden_is_unknown, needs OrdinaryUser, Linux),
    case!(a_pipe_that_is_read_is_no_finding, needs Linux),
    case!(a_terminal_is_found, needs Terminals, Linux),
    case!(an_inherited_descriptor_is_found),
    case!(a_descriptor_that_is_expected_is_no_finding),
    case!(a_descriptor_that_is_closed_on_exec_is_no_finding),
    case!(a_descriptor_that_another_program_shares_is_found, needs Linux),
    case!(a_socket_of_a_service_manager_is_no_finding, needs Linux),
    case!(access_that_the_user_would_not_get_is_found, needs Root, Linux, Tracing),
    case!(access_that_the_user_would_get_is_no_finding, needs Root, Linux, Tracing),
];

fn a_closed_stream_is_found() {
    let cat = Cat::by_shell("echo $$; exec cat 2>&-", &[]);
    inspect(cat.pid).assert_finding("standard error", "becomes this stream");
    inspect(Cat::with(&[]).pid).assert_finding("standard input", "not /dev/null");
}

fn an_input_that_is_not_the_null_device_is_found() {
    let scenario = clean();
    let file = file(&scenario, 0o644);
    let checkup = inspect_daemon(&scenario.stdin(Stream::read(file.as_path())));
    checkup.assert_only("standard input", "not /dev/null");
}

/// A daemon whose output goes to this file.
fn with_log(scenario: Scenario, path: &Path) -> Scenario {
    scenario
        .stdout(Stream::append(path))
        .stderr(Stream::append(path))
}

fn an_output_to_a_log_file_is_no_finding() {
    let scenario = clean();
    let log = file(&scenario, 0o644);
    let checkup = inspect_daemon(&with_log(scenario, &log));
    checkup.assert_findings(&[]);
    checkup.assert_ok("standard output", "a log file");
}

fn a_log_file_that_was_deleted_is_found() {
    let scenario = clean();
    let log = file(&scenario, 0o644);
    let run = with_log(scenario, &log).start();
    fs::remove_file(&log).unwrap();
    let checkup = inspect(run.report().pid);
    checkup.assert_findings(&["standard output", "standard error"]);
    checkup.assert_finding("standard error", "the file was deleted");
}

fn a_file_that_never_had_a_name_is_no_finding() {
    // tempfile uses O_TMPFILE, which every tmpfs has.
    let nameless: OwnedFd = tempfile::tempfile_in("/dev/shm").unwrap().into();
    let cat = Cat::with(&[(nameless, NUMBER)]);
    let checkup = inspect(cat.pid);
    let row = checkup.row(&checked());
    assert!(
        row.seen.contains("(deleted)") && !row.reason.contains("deleted"),
        "{row:?}"
    );
}

fn a_file_that_every_user_may_write_is_found() {
    let scenario = clean();
    let log = file(&scenario, 0o666);
    let checkup = inspect_daemon(&scenario.stdout(Stream::append(log.as_path())));
    checkup.assert_only("standard output", "every user may write");
}

fn without_reader() -> Cat {
    let mut cat = Cat::with(&[]);
    drop(cat.child.stdout.take());
    cat
}

fn a_pipe_that_nobody_reads_is_found() {
    let cat = without_reader();
    let checkup = inspect_until(cat.pid, "standard output", |row| row.mark == "finding");
    checkup.assert_finding("standard output", "nobody reads the pipe");
}

fn a_pipe_whose_reader_may_be_hidden_is_unknown() {
    let cat = without_reader();
    let checkup = inspect_until(cat.pid, "standard output", |row| row.mark == "unknown");
    checkup.assert_unknown("standard output", "is not visible");
}

fn a_pipe_that_is_read_is_no_finding() {
    let cat = Cat::with(&[]);
    let reader = format!(" {} reads the pipe", std::process::id());
    let checkup = inspect_until(cat.pid, "standard output", |row| {
        row.reason.contains(&reader)
    });
    checkup.assert_ok("standard output", &reader);
}

fn a_terminal_is_found() {
    let scenario = clean().from_state(|state| state.session = Session::LeaderWithTerminal);
    let checkup = inspect_daemon(&with_file(scenario, "/dev/tty".as_ref(), true));
    checkup.assert_only(&checked(), "it is a terminal");
}

fn an_inherited_descriptor_is_found() {
    let checkup = inspect_daemon(&with_file(clean(), "/".as_ref(), false));
    match cfg!(target_os = "freebsd") {
        true => checkup.assert_unknown(&checked(), "not visible"),
        false => checkup.assert_only(&checked(), "it is not close-on-exec"),
    }
}

fn a_descriptor_that_is_expected_is_no_finding() {
    let run = with_file(clean(), "/".as_ref(), false).start();
    let arguments = ["--json", "--keep", &NUMBER.to_string()];
    let checkup = Checkup::of(&command(run.report().pid, &arguments).output().unwrap());
    checkup.assert_findings(&[]);
    checkup.assert_ok(&checked(), "it is expected");
}

fn a_descriptor_that_is_closed_on_exec_is_no_finding() {
    let checkup = inspect_daemon(&with_file(clean(), "/".as_ref(), true));
    checkup.assert_findings(&[]);
    if !cfg!(target_os = "freebsd") {
        checkup.assert_ok(&checked(), "closed on exec");
    }
}

fn a_descriptor_that_another_program_shares_is_found() {
    let (socket, peer) = UnixStream::pair().unwrap();
    let copy = socket.try_clone().unwrap();
    let cat = Cat::with(&[(socket.into(), 9)]);
    let is_alone = |row: &Row| !row.reason.contains("a copy");
    let alone = inspect_until(cat.pid, "descriptor 9", is_alone);
    assert!(is_alone(alone.row("descriptor 9")), "{alone:?}");
    // The input of this program ends when the other end of the socket is closed.
    let mut other = Command::new("sh");
    other.args(["-c", "read -r line <&9"]);
    sys::pass_descriptor(&mut other, copy.as_fd(), 9);
    let mut other = other.spawn().unwrap();
    drop(copy);
    let copy = format!(" {} has a copy of it", other.id());
    let shared = inspect_until(cat.pid, "descriptor 9", |row| row.reason.contains(&copy));
    drop(peer);
    other.wait().unwrap();
    shared.assert_finding("descriptor 9", &copy);
}

fn a_socket_of_a_service_manager_is_no_finding() {
    let new_socket = || -> OwnedFd { UnixStream::pair().unwrap().0.into() };
    let activated = "echo $$; LISTEN_PID=$$ LISTEN_FDS=1 exec cat";
    let cat = Cat::by_shell(activated, &[(new_socket(), 3)]);
    let checkup = inspect_until(cat.pid, "descriptor 3", |row| row.mark == "ok");
    checkup.assert_ok("descriptor 3", "the service manager");
    let foreign = "echo $$; LISTEN_PID=1 LISTEN_FDS=1 exec cat";
    let cat = Cat::by_shell(foreign, &[(new_socket(), 3)]);
    let reason = "not close-on-exec";
    let checkup = inspect_until(cat.pid, "descriptor 3", |row| row.reason.contains(reason));
    checkup.assert_finding("descriptor 3", reason);
}

fn as_user_with_file(mode: u32) -> Checkup {
    let scenario = clean();
    let file = file(&scenario, mode);
    inspect_daemon(&with_file(scenario.user(UID).group(GID), &file, true))
}

fn access_that_the_user_would_not_get_is_found() {
    as_user_with_file(0o640).assert_only(&checked(), "could not open it to read: it is mode 0640");
}

fn access_that_the_user_would_get_is_no_finding() {
    as_user_with_file(0o644).assert_findings(&[]);
}
