use std::os::unix::fs::FileTypeExt as _;

use tester::prelude::*;

pub(crate) const CASES: &[Case] =
    &[case!(another_file_in_place_of_the_null_device_is_refused, needs Root, Mounting, Linux)];

fn another_file_in_place_of_the_null_device_is_refused() {
    let scenario = scenario!();
    let file = scenario.path("null");
    fs::write(&file, "").expect("make a file");
    let pipe = scenario.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .expect("run mkfifo")
            .success()
    );
    assert!(fs::metadata(&pipe).expect("a pipe").file_type().is_fifo());
    for covering in [
        file.as_path(),
        &pipe,
        "/dev/zero".as_ref(),
        "/dev/tty".as_ref(),
    ] {
        for entry in CHECKED {
            let scenario = scenario
                .clone()
                .entry(entry)
                .pid_file("daemon.pid")
                .from_state(|state| state.null_device = Some(covering.into()));
            let run = scenario.launch();
            let error = run.launcher_error();
            if entry.returns_in_both() {
                assert_eq!(run.daemon_error(), error);
                run.wait_until_all_ended();
            } else {
                run.assert_nothing_left();
            }
            // The process has no terminal that could be opened.
            let expected = match covering.ends_with("tty") {
                true => libc::ENXIO,
                false => libc::ENODEV,
            };
            assert_eq!(
                error.kind,
                format!("OpenDevnull({expected})"),
                "{covering:?}"
            );
            if expected == libc::ENODEV {
                let text = "cannot open /dev/null: it is not the null device";
                assert_eq!(error.text, text, "{covering:?}");
            }
        }
    }
    assert_eq!(fs::read(&file).expect("read it"), b"");
    // A start that needs no null device succeeds.
    let kept = Stream::Keep;
    let scenario = scenario.from_state(|state| state.null_device = Some(file.into()));
    let scenario = scenario
        .stdin(kept.clone())
        .stdout(kept.clone())
        .stderr(kept);
    scenario.launch().report();
}
