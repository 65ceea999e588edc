use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] =
    &[case!(another_file_in_place_of_the_null_device_is_refused, needs Root, Mounting, Linux)];

fn another_file_in_place_of_the_null_device_is_refused() {
    let scenario = scenario!();
    let file = scenario.path("null");
    fs::write(&file, "").expect("make a file");
    let pipe = scenario.path("pipe");
    sys::make_fifo(&pipe).unwrap();
    let [zero, terminal] = ["/dev/zero", "/dev/tty"].map(Path::new);
    for covering in [&file, &pipe, zero, terminal] {
        for entry in CHECKED {
            let scenario = scenario.clone().entry(entry).pid_file("daemon.pid");
            let covering_file = Some(covering.into());
            let scenario = scenario.from_state(|state| state.null_device = covering_file);
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
            error.assert_kind("OpenDevnull", expected);
            if expected == libc::ENODEV {
                let text = "cannot open /dev/null: it is not the null device";
                assert_eq!(error.text, text, "{covering:?}");
            }
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"");
    // A start that needs no null device succeeds.
    let scenario = all_kept().from_state(|state| state.null_device = Some(file.into()));
    scenario.launch().report();
}
