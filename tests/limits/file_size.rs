use tester::prelude::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_pid_that_cannot_be_written_is_reported),
    case!(a_partly_written_pid_is_reported),
    case!(sigxfsz_neither_kills_a_process_nor_runs_a_handler),
];

fn with_room_for(size: u64, on_sigxfsz: Disposition) -> Scenario {
    let scenario = daemon!().limit_file_size(size);
    scenario.on_signal(libc::SIGXFSZ, on_sigxfsz)
}

fn a_pid_that_cannot_be_written_is_reported() {
    let text = "cannot write pid file daemon.pid";
    let expected = StartError::with_errno("WritePid", libc::EFBIG, Some("daemon.pid"), text);
    with_room_for(0, Disposition::Ignore).assert_fails_in_launcher(&expected);
}

fn a_partly_written_pid_is_reported() {
    let text = "cannot write the whole pid to pid file daemon.pid";
    let expected = StartError::new("WritePidUnspecifiedError", Some("daemon.pid"), text);
    with_room_for(1, Disposition::Ignore).assert_fails_in_launcher(&expected);
}

fn sigxfsz_neither_kills_a_process_nor_runs_a_handler() {
    let scenario = daemon!().limit_file_size(0);
    scenario.assert_pid_file_fails("WritePid", libc::EFBIG);
    // No handler runs either: the library reports the error itself.
    let run = with_room_for(0, Disposition::Report).launch();
    let error = run.launcher_error();
    error.assert_kind("WritePid", libc::EFBIG);
    run.assert_nothing_left();
    let is_told = |message: &Message| *message == Message::Signalled(libc::SIGXFSZ);
    assert!(!run.messages().iter().any(|one| is_told(&one.message)));
}
