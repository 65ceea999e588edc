//! Set-up that the modules of this suite share.

use tester::prelude::*;

/// The five variables of a user.
pub(crate) const NAMES: [&str; 5] = ["HOME", "USER", "LOGNAME", "SHELL", "PATH"];

/// These five variables of a process.
pub(crate) fn of_user(report: &Report) -> [Option<&str>; 5] {
    NAMES.map(|name| report.variable(name))
}

/// A start by root with a user database of its own, which has root and these lines.
pub(crate) fn with_database(lines: &str) -> Scenario {
    let scenario = scenario!();
    let directory = scenario.create_directory("etc");
    let passwd = format!("root:x:0:0::/root:/bin/sh\n{lines}");
    fs::write(directory.join("passwd"), passwd).unwrap();
    fs::write(directory.join("group"), "root:x:0:\n").unwrap();
    // Other sources than the files would add entries.
    fs::write(
        directory.join("nsswitch.conf"),
        "passwd: files\ngroup: files\n",
    )
    .unwrap();
    scenario.from_state(|state| state.user_database = Some(directory.into()))
}

/// The report of the process in which the library has returned, beside a daemon that has started.
#[track_caller]
pub(crate) fn afterwards(run: &Run) -> Report {
    run.first("report afterwards", |message| match message {
        Message::Afterwards(report) => Some(report.clone()),
        _ => None,
    })
}
