//! Set-up and assertions that the modules of this suite share.

use tester::prelude::*;
use tester::report::{AccessMode, Descriptor};

/// A start whose standard error is this log file in the directory of the case, and its path.
pub(crate) fn with_log(name: &str) -> (Scenario, PathBuf) {
    let scenario = scenario!();
    let path = scenario.path(name);
    (scenario.stderr(Stream::log(&path)), path)
}

#[track_caller]
pub(crate) fn stream(report: &Report, number: i32) -> &Descriptor {
    let found = report.descriptor(number);
    found.unwrap_or_else(|| panic!("stream {number} is closed"))
}

/// The stream of the daemon appends to this file.
#[track_caller]
pub(crate) fn assert_appends(report: &Report, number: i32, path: &Path) {
    let stream = stream(report, number);
    assert!(stream.is_file(path), "{stream:?}");
    assert_eq!(stream.access, AccessMode::Write);
    let flags = (stream.append, stream.nonblocking, stream.close_on_exec);
    assert_eq!(flags, (true, false, Some(false)));
}

/// The daemon has the descriptors of the initial state and the three streams, and no others.
#[track_caller]
pub(crate) fn assert_nothing_stray(run: &Run, report: &Report) {
    let initial = run.initial().descriptor_numbers();
    let mut expected: Vec<_> = initial.into_iter().chain(0..3).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(report.descriptor_numbers(), expected);
}

/// The mode, the owner and the group of a file.
pub(crate) fn rights(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).expect("look at the file");
    (found.mode() & 0o7777, found.uid(), found.gid())
}

/// Daemon and launcher get this error of the log file at standard error.
#[track_caller]
pub(crate) fn assert_refused(scenario: &Scenario, errno: i32, reason: &str) {
    let error = scenario.fail_in_launcher();
    error.assert_kind("OpenLogFile", errno);
    let Some(Stream::Log(path)) = &scenario.config.options.stderr else {
        panic!("no log file");
    };
    assert_eq!(error.path.as_ref(), Some(path));
    let shown = path.to_path();
    let start = format!("cannot open standard error log file {}: ", shown.display());
    assert!(error.text.starts_with(&start), "{error}");
    assert!(error.text.contains(reason), "{error}");
}
