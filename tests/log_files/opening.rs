use std::os::unix::net::UnixListener;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_new_log_file_is_appended_to),
    case!(an_existing_log_file_is_appended_to_and_keeps_its_mode),
    case!(the_umask_limits_the_mode_of_a_new_log_file),
    case!(a_write_only_log_file_is_accepted),
    case!(a_log_file_of_five_gibibytes_is_accepted),
    case!(both_streams_may_have_the_same_log_file),
    case!(a_relative_path_starts_at_the_working_directory),
    case!(the_null_device_is_accepted),
    case!(closed_streams_become_log_files),
    case!(a_log_file_is_opened_in_the_foreground),
    case!(a_missing_directory_is_named),
    case!(a_missing_permission_is_explained),
    case!(a_symbolic_link_is_not_followed),
    case!(a_file_with_a_second_hard_link_is_refused),
    case!(a_fifo_without_a_reader_is_refused_at_once),
    case!(a_fifo_with_a_reader_is_refused),
    case!(a_socket_is_refused),
    case!(a_directory_is_refused),
    case!(a_device_is_refused, needs Linux),
    case!(the_error_names_standard_output),
    case!(a_refusal_is_reported_to_launcher_and_daemon),
    case!(a_log_file_as_standard_input_is_refused_before_the_fork),
    case!(a_nul_in_the_path_is_refused_before_the_fork),
    case!(a_start_that_fails_before_creates_no_log_file),
];

/// A panic writes to standard error.
fn panicking(scenario: &Scenario) -> Scenario {
    let steps = [Step::PanicAndCatch("seen in the log".to_owned())];
    scenario.clone().privileged_action(steps)
}

fn a_new_log_file_is_appended_to() {
    for entry in ENTRIES {
        let (scenario, path) = with_log("error.log");
        let run = panicking(&scenario).entry(entry).start();
        let daemon = run.report();
        assert_appends(&daemon, 2, &path);
        assert_nothing_stray(&run, &daemon);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("seen in the log"), "{text}");
        assert_eq!(rights(&path).0, 0o640);
    }
}

fn an_existing_log_file_is_appended_to_and_keeps_its_mode() {
    // Whoever may write to the file is the caller's business.
    for mode in [0o600, 0o644, 0o666] {
        let (scenario, path) = with_log("error.log");
        fs::write(&path, "before\n").unwrap();
        set_mode(&path, mode);
        let run = panicking(&scenario).start();
        assert_appends(&run.report(), 2, &path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before\n"), "{text}");
        assert!(text.contains("seen in the log"), "{text}");
        assert_eq!(rights(&path).0, mode);
    }
}

fn the_umask_limits_the_mode_of_a_new_log_file() {
    for (umask, mode) in [(0_u32, 0o640), (0o022, 0o640), (0o077, 0o600)] {
        let (scenario, path) = with_log("error.log");
        let _run = scenario.umask(umask).start();
        assert_eq!(rights(&path).0, mode);
    }
}

/// A processor of 32 bits needs other calls for it.
fn a_log_file_of_five_gibibytes_is_accepted() {
    let (scenario, path) = with_log("error.log");
    let file = File::create(&path).unwrap();
    // The file has a hole, and takes no space.
    file.set_len(5 << 30).unwrap();
    assert_appends(&scenario.start().report(), 2, &path);
}

fn a_write_only_log_file_is_accepted() {
    let (scenario, path) = with_log("error.log");
    fs::write(&path, "").unwrap();
    set_mode(&path, 0o200);
    assert_appends(&scenario.start().report(), 2, &path);
}

fn both_streams_may_have_the_same_log_file() {
    let (scenario, path) = with_log("clockd.log");
    let run = scenario.stdout(Stream::log(&path)).start();
    let daemon = run.report();
    assert_appends(&daemon, 1, &path);
    assert_appends(&daemon, 2, &path);
    assert_nothing_stray(&run, &daemon);
}

fn a_relative_path_starts_at_the_working_directory() {
    let (scenario, directory) = scenario!().with_directory("work");
    let scenario = scenario.stderr(Stream::log("error.log"));
    let run = scenario.working_directory("work").start();
    assert_appends(&run.report(), 2, &directory.join("error.log"));
}

fn the_null_device_is_accepted() {
    let scenario = scenario!().stderr(Stream::log("/dev/null"));
    assert!(stream(&scenario.start().report(), 2).is_null_device());
}

fn closed_streams_become_log_files() {
    let (scenario, error) = with_log("error.log");
    let output = scenario.path("output.log");
    let scenario = scenario.stdout(Stream::log(&output));
    let run = scenario
        .from_state(|state| state.closed = [true; 3])
        .start();
    let daemon = run.report();
    assert_appends(&daemon, 1, &output);
    assert_appends(&daemon, 2, &error);
    assert_nothing_stray(&run, &daemon);
}

fn a_log_file_is_opened_in_the_foreground() {
    let (scenario, path) = with_log("error.log");
    let (run, daemon) = scenario.foreground(Foreground::Yes).serve();
    assert_appends(&daemon, 2, &path);
    assert_nothing_stray(&run, &daemon);
    let (scenario, path) = with_log("missing/error.log");
    let run = scenario.foreground(Foreground::Yes).launch();
    let error = run.launcher_error();
    error.assert_kind("OpenLogFile", libc::ENOENT);
    assert_eq!(error.path, Some(Bytes::from(&path)));
}

fn a_missing_directory_is_named() {
    let (scenario, path) = with_log("missing/error.log");
    let reason = missing_directory(path.parent().unwrap().display());
    assert_refused(&scenario, libc::ENOENT, &reason);
}

fn a_missing_permission_is_explained() {
    let (scenario, path) = with_log("closed/error.log");
    let (scenario, directory) = scenario.with_directory("closed");
    let scenario = scenario.as_ordinary_user();
    set_mode(&directory, 0o555);
    let error = scenario.fail_in_launcher();
    error.assert_kind("OpenLogFile", libc::EACCES);
    let (_, uid, gid) = rights(&directory);
    let reason = format!(
        "; the directory {} belongs to uid {uid} and gid {gid}, mode 0555",
        directory.display()
    );
    assert!(error.text.contains(&reason), "{error}");
    assert!(!path.exists());
}

fn a_symbolic_link_is_not_followed() {
    let (scenario, path) = with_log("error.log");
    let victim = scenario.path("victim");
    symlink(&victim, &path).unwrap();
    assert_refused(&scenario, libc::ELOOP, IS_LINK);
    assert!(!victim.exists());
    fs::write(&victim, "precious").unwrap();
    assert_refused(&panicking(&scenario), libc::ELOOP, IS_LINK);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

fn a_file_with_a_second_hard_link_is_refused() {
    let (scenario, path) = with_log("error.log");
    let victim = scenario.path("victim");
    fs::write(&victim, "precious").unwrap();
    fs::hard_link(&victim, &path).unwrap();
    assert_refused(
        &panicking(&scenario),
        libc::EMLINK,
        "it has other hard links",
    );
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

fn a_fifo_without_a_reader_is_refused_at_once() {
    let (scenario, path) = with_log("error.log");
    sys::make_fifo(&path).unwrap();
    let reason = "it is a FIFO that no process reads, or a socket";
    assert_refused(&scenario, libc::ENXIO, reason);
}

fn a_fifo_with_a_reader_is_refused() {
    let (scenario, path) = with_log("error.log");
    sys::make_fifo(&path).unwrap();
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    assert_refused(&scenario, libc::EINVAL, "it is a FIFO");
    drop(reader);
}

fn a_socket_is_refused() {
    let (scenario, path) = with_log("error.log");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = scenario.fail_in_launcher();
    assert_eq!(error.kind_name(), "OpenLogFile");
}

fn a_directory_is_refused() {
    let (scenario, _) = with_log("error.log");
    let (scenario, _) = scenario.with_directory("error.log");
    assert_refused(&scenario, libc::EISDIR, "");
}

fn a_device_is_refused() {
    let scenario = scenario!().stderr(Stream::log("/dev/zero"));
    assert_refused(&scenario, libc::EINVAL, "it is a device");
}

fn the_error_names_standard_output() {
    let scenario = scenario!();
    let path = scenario.path("missing/output.log");
    let error = scenario.stdout(Stream::log(&path)).fail_in_launcher();
    let start = format!("cannot open standard output log file {}: ", path.display());
    assert!(error.text.starts_with(&start), "{error}");
}

fn a_refusal_is_reported_to_launcher_and_daemon() {
    let (scenario, path) = with_log("missing/error.log");
    let error = scenario.fail_in_launcher_and_daemon();
    error.assert_kind("OpenLogFile", libc::ENOENT);
    assert_eq!(error.path, Some(Bytes::from(&path)));
}

fn a_log_file_as_standard_input_is_refused_before_the_fork() {
    for foreground in [Foreground::No, Foreground::Yes] {
        let scenario = scenario!();
        let path = scenario.path("input.log");
        let scenario = scenario.stdin(Stream::log(&path)).foreground(foreground);
        let error = scenario.launch().launcher_error();
        let text = format!("standard input cannot be a log file: {}", path.display());
        error.assert_is("StandardInputIsLogFile", &text);
        assert_eq!(error.path, Some(Bytes::from(&path)));
        assert!(!path.exists());
    }
}

fn a_nul_in_the_path_is_refused_before_the_fork() {
    let scenario = scenario!().stdout(Stream::log("out\0put"));
    scenario
        .fail_in_launcher()
        .assert_is("PathContainsNul", "NUL byte in path out\\u{0}put");
}

/// The launcher prints the failure. The daemon prints it neither on the terminal nor in a log
/// file that it would have to create.
fn a_start_that_fails_before_creates_no_log_file() {
    let (scenario, path) = with_log("error.log");
    let scenario = scenario.pid_file("missing/daemon.pid");
    for entry in CHECKED {
        let run = scenario.clone().entry(entry).launch();
        assert_eq!(run.launcher_error().kind_name(), "OpenPidfile");
        run.wait_until_all_ended();
        assert!(!path.exists());
    }
}
