use std::collections::BTreeMap;

use control::Command as Ask;
use tester::fixtures::{rotate_logs, rotated};
use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_daemon_without_log_files_reopens_none),
    case!(a_renamed_log_file_is_replaced),
    case!(a_log_file_of_a_dropped_daemon_is_reopened, needs Root),
    case!(a_relative_path_is_found_from_another_working_directory),
    case!(no_line_is_lost_or_repeated_while_log_files_are_renamed),
    case!(a_truncated_log_file_starts_again),
    case!(logrotate_loses_no_line, needs Logrotate),
    case!(logrotate_may_truncate_the_log_file, needs Logrotate),
    case!(a_log_file_that_cannot_be_reopened_stays_in_use),
    case!(all_log_files_that_cannot_be_reopened_are_named),
    case!(a_log_file_that_a_stranger_has_replaced_stays_in_use, needs Root),
    case!(a_log_file_in_the_new_root_is_reopened_there, needs Root),
    case!(a_log_file_is_found_in_a_root_behind_a_symbolic_link, needs Root),
    case!(a_log_file_outside_the_new_root_stays_in_use, needs Root),
    case!(a_worker_reopens_its_own_streams),
    case!(another_daemon_does_not_reopen_the_log_files_of_the_first),
    case!(a_stream_that_is_kept_until_ready_is_not_reopened_before),
];

#[track_caller]
fn reopen(run: &Run) {
    assert_eq!(run.answer(&Ask::ReopenLogs), [""; 0]);
}

/// Renames the file, as logrotate does.
fn rename(path: &Path, number: usize) -> PathBuf {
    let old = PathBuf::from(format!("{}.{number}", path.display()));
    fs::rename(path, &old).unwrap();
    old
}

fn write(run: &Run, number: i32, text: &str) {
    run.answer(&Ask::Write(number, Bytes::from(text)));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn a_daemon_without_log_files_reopens_none() {
    for stream in [Stream::DevNull, Stream::Keep, Stream::append("file")] {
        let run = scenario!().stderr(stream).start();
        let before = run.observe();
        reopen(&run);
        assert_eq!(run.observe().descriptors, before.descriptors);
    }
}

fn a_renamed_log_file_is_replaced() {
    let (scenario, path) = with_log("error.log");
    let run = scenario.umask(0o077_u32).start();
    write(&run, 2, "one\n");
    let old = rename(&path, 1);
    write(&run, 2, "two\n");
    reopen(&run);
    write(&run, 2, "three\n");
    assert_eq!(
        (read(&old).as_str(), read(&path).as_str()),
        ("one\ntwo\n", "three\n")
    );
    assert_eq!(rights(&path).0, 0o600);
    let daemon = run.observe();
    assert_appends(&daemon, 2, &path);
    assert_nothing_stray(&run, &daemon);
    // Without a rename nothing changes.
    reopen(&run);
    write(&run, 2, "four\n");
    assert_eq!(read(&path), "three\nfour\n");
}

fn a_log_file_of_a_dropped_daemon_is_reopened() {
    let (scenario, path) = with_log("logs/error.log");
    let (scenario, directory) = scenario.with_directory("logs");
    chown(&directory, Some(UID), Some(GID)).unwrap();
    let run = scenario.user(UID).group(GID).start();
    rename(&path, 1);
    reopen(&run);
    assert_appends(&run.observe(), 2, &path);
    assert_eq!(rights(&path), (0o640, UID, GID));
    // logrotate may create the file itself.
    rename(&path, 2);
    fs::write(&path, "").unwrap();
    chown(&path, Some(UID), Some(0)).unwrap();
    set_mode(&path, 0o600);
    reopen(&run);
    assert_appends(&run.observe(), 2, &path);
    assert_eq!(rights(&path), (0o600, UID, 0));
}

fn a_relative_path_is_found_from_another_working_directory() {
    let (scenario, directory) = scenario!().with_directory("work");
    let scenario = scenario.stderr(Stream::log("error.log"));
    let run = scenario.working_directory("work").start();
    // The daemon ends up in the root directory.
    run.try_to_escape();
    let path = directory.join("error.log");
    rename(&path, 1);
    reopen(&run);
    assert_appends(&run.observe(), 2, &path);
}

/// The lines in these files, each of which occurs once. Returns how many each writer has written.
#[track_caller]
fn count_lines(files: &[PathBuf]) -> Vec<String> {
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for file in files {
        for line in read(file).lines() {
            let (writer, number) = line.split_once(' ').expect("a whole line");
            let expected = next.entry(writer.parse().expect("a writer")).or_default();
            let number: u32 = number.parse().expect("a number");
            assert_eq!(number, *expected, "writer {writer} in {}", file.display());
            *expected += 1;
        }
    }
    next.values().map(ToString::to_string).collect()
}

/// A thread writes its lines one after the other, so that they follow each other in the files, too.
fn no_line_is_lost_or_repeated_while_log_files_are_renamed() {
    let (scenario, error) = with_log("error.log");
    let output = scenario.path("output.log");
    let run = scenario.stdout(Stream::log(&output)).start();
    run.answer(&Ask::StartWriters(4));
    let (mut outputs, mut errors) = (Vec::new(), Vec::new());
    for number in 0..20 {
        outputs.push(rename(&output, number));
        errors.push(rename(&error, number));
        reopen(&run);
    }
    let lines = run.answer(&Ask::StopWriters);
    outputs.push(output);
    errors.push(error);
    assert_eq!(count_lines(&outputs), lines);
    assert_eq!(count_lines(&errors), lines);
}

/// The daemon need not reopen the file.
fn a_truncated_log_file_starts_again() {
    let (scenario, path) = with_log("error.log");
    let run = scenario.start();
    write(&run, 2, "before\n");
    File::options()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    write(&run, 2, "after\n");
    assert_eq!(read(&path), "after\n");
}

fn logrotate(scenario: &Scenario, directives: &str) {
    rotate_logs(scenario.directory(), scenario.directory(), directives);
}

fn logrotate_loses_no_line() {
    for directives in ["    nocreate\n", "    create 0600\n"] {
        let (scenario, error) = with_log("error.log");
        let output = scenario.path("output.log");
        let scenario = scenario.stdout(Stream::log(&output));
        let run = scenario.start();
        run.answer(&Ask::StartWriters(4));
        for _ in 0..5 {
            logrotate(&scenario, directives);
            reopen(&run);
        }
        let lines = run.answer(&Ask::StopWriters);
        assert_eq!(rotated(&error).len(), 6);
        assert_eq!(count_lines(&rotated(&output)), lines);
        assert_eq!(count_lines(&rotated(&error)), lines);
    }
}

/// Lines between the copy and the truncation are lost by design. No other line is.
fn logrotate_may_truncate_the_log_file() {
    let (scenario, path) = with_log("error.log");
    let run = scenario.start();
    for text in ["one\n", "two\n", "three\n"] {
        write(&run, 2, text);
        logrotate(&scenario, "    copytruncate\n");
    }
    write(&run, 2, "four\n");
    let texts: Vec<_> = rotated(&path).iter().map(|path| read(path)).collect();
    assert_eq!(texts, ["one\n", "two\n", "three\n", "four\n"]);
}

fn a_log_file_that_cannot_be_reopened_stays_in_use() {
    let (scenario, error) = with_log("error.log");
    let output = scenario.path("output.log");
    let run = scenario.stdout(Stream::log(&output)).start();
    let [old_output, old_error] = [&output, &error].map(|path| rename(path, 1));
    symlink("victim", &output).unwrap();
    let text = format!(
        "cannot open standard output log file {}: {IS_LINK}; the old file stays in use",
        output.display()
    );
    assert_eq!(run.answer(&Ask::ReopenLogs), [text]);
    let daemon = run.observe();
    assert_appends(&daemon, 1, &old_output);
    assert_appends(&daemon, 2, &error);
    assert_nothing_stray(&run, &daemon);
    write(&run, 2, "new\n");
    assert_eq!(
        (read(&old_error).as_str(), read(&error).as_str()),
        ("", "new\n")
    );
    fs::remove_file(&output).unwrap();
    reopen(&run);
    assert_appends(&run.observe(), 1, &output);
}

fn all_log_files_that_cannot_be_reopened_are_named() {
    let (scenario, error) = with_log("logs/error.log");
    let (scenario, directory) = scenario.with_directory("logs");
    let output = scenario.path("logs/output.log");
    let run = scenario.stdout(Stream::log(&output)).start();
    fs::remove_dir_all(&directory).unwrap();
    let reason = format!(
        "{}; the old file stays in use",
        missing_directory(directory.display())
    );
    let text = format!(
        "cannot open standard output log file {}: {reason}; cannot open standard error log file \
         {}: {reason}",
        output.display(),
        error.display()
    );
    assert_eq!(run.answer(&Ask::ReopenLogs), [text]);
}

fn a_log_file_that_a_stranger_has_replaced_stays_in_use() {
    let (scenario, path) = with_log("logs/error.log");
    let (scenario, directory) = scenario.with_directory("logs");
    chown(&directory, Some(UID), Some(GID)).unwrap();
    let run = scenario.user(UID).group(GID).start();
    let old = rename(&path, 1);
    fs::write(&path, "").unwrap();
    set_mode(&path, 0o666);
    chown(&path, Some(UID + 1), None).unwrap();
    let text = format!(
        "cannot open standard error log file {}: it belongs to another user, uid {}; a \
         start accepts a file of root, of the user of the launcher or of `user`; the old file \
         stays in use",
        path.display(),
        UID + 1
    );
    assert_eq!(run.answer(&Ask::ReopenLogs), [text]);
    assert_appends(&run.observe(), 2, &old);
}

fn a_log_file_in_the_new_root_is_reopened_there() {
    for entry in [Entry::Start, Entry::Execute] {
        let (scenario, path) = with_log("jail/logs/error.log");
        let (scenario, jail) = scenario.with_directory("jail");
        let directory = scenario.create_directory("jail/logs");
        chown(&directory, Some(UID), Some(GID)).unwrap();
        let scenario = scenario.user(UID).group(GID).chroot(&jail).entry(entry);
        let run = scenario.start();
        rename(&path, 1);
        reopen(&run);
        write(&run, 2, "new\n");
        assert_eq!(read(&path), "new\n");
        fs::remove_file(&path).unwrap();
        fs::remove_file(scenario.path("jail/logs/error.log.1")).unwrap();
        fs::remove_dir(&directory).unwrap();
        let text = format!(
            "cannot open standard error log file /logs/error.log: {}; the old file stays in use",
            missing_directory("/logs")
        );
        assert_eq!(run.answer(&Ask::ReopenLogs), [text]);
    }
}

fn a_log_file_is_found_in_a_root_behind_a_symbolic_link() {
    let (scenario, _) = with_log("link/error.log");
    let (scenario, jail) = scenario.with_directory("jail");
    symlink("jail", scenario.path("link")).unwrap();
    let run = scenario.chroot(&jail).start();
    let path = jail.join("error.log");
    rename(&path, 1);
    reopen(&run);
    write(&run, 2, "new\n");
    assert_eq!(read(&path), "new\n");
}

fn a_log_file_outside_the_new_root_stays_in_use() {
    let (scenario, path) = with_log("error.log");
    let (scenario, jail) = scenario.with_directory("jail");
    let run = scenario.chroot(&jail).start();
    let old = rename(&path, 1);
    let text = format!(
        "cannot open standard error log file {}: it is outside the root directory of the daemon; \
         the old file stays in use",
        path.display()
    );
    assert_eq!(run.answer(&Ask::ReopenLogs), [text]);
    write(&run, 2, "still\n");
    assert_eq!(read(&old), "still\n");
}

fn a_worker_reopens_its_own_streams() {
    let (scenario, path) = with_log("error.log");
    let run = scenario.start();
    let old = rename(&path, 1);
    let worker = Ask::ReopenLogsInWorker(Bytes::from("worker\n"));
    assert_eq!(run.answer(&worker), [""; 0]);
    write(&run, 2, "daemon\n");
    assert_eq!(
        (read(&old).as_str(), read(&path).as_str()),
        ("daemon\n", "worker\n")
    );
}

/// The other daemon calls `reopen_logs`, too.
fn another_daemon_does_not_reopen_the_log_files_of_the_first() {
    for foreground in [false, true] {
        let (scenario, path) = with_log("error.log");
        let run = scenario.start();
        let start = AnotherStart {
            foreground,
            ..AnotherStart::default()
        };
        run.send_command(&Ask::StartAnother(start));
        let other = run.observed();
        match foreground {
            // The process keeps its streams.
            true => assert_appends(&other, 2, &path),
            false => assert!(stream(&other, 2).is_null_device()),
        }
        if foreground {
            rename(&path, 1);
            reopen(&run);
            assert_appends(&run.observe(), 2, &path);
        }
    }
}

fn a_stream_that_is_kept_until_ready_is_not_reopened_before() {
    let scenario = scenario!();
    let path = scenario.path("error.log");
    let log = Stream::log(&path).until_ready();
    let steps = [Step::ReopenLogs, Step::Observe];
    let run = scenario.stderr(log).initialize(steps).start();
    assert_eq!(stream(&run.observed(), 2), stream(&run.initial(), 2));
    assert_appends(&run.report(), 2, &path);
    rename(&path, 1);
    reopen(&run);
    assert_appends(&run.observe(), 2, &path);
}
