use std::os::unix::net::UnixDatagram;

use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_broken_address_does_not_fail_a_start),
    case!(a_failed_notification_is_a_line_on_standard_error),
    case!(a_notification_that_fails_late_is_a_line_on_standard_error),
    case!(a_failed_notification_without_standard_error_does_not_fail_the_start),
    case!(a_manager_that_does_not_read_delays_a_start_only_briefly),
    case!(a_manager_that_does_not_read_delays_a_foreground_start_only_briefly),
];

fn a_broken_address_does_not_fail_a_start() {
    let scenario = scenario!();
    let file = scenario.path("file");
    fs::write(&file, "").unwrap();
    let long = "/".repeat(200);
    let addresses = [
        "/nowhere/notify",
        file.to_str().unwrap(),
        "@tester/nobody",
        "@",
        "relative",
        "",
        &long,
        "vsock:2:1234",
    ];
    for address in addresses {
        let run = scenario!().env(ADDRESS, address).start();
        run.launcher().assert().success();
        in_foreground().env(ADDRESS, address).serve();
    }
}

/// Otherwise the administrator of a service manager that waits in vain has no clue.
fn a_failed_notification_is_a_line_on_standard_error() {
    let directory = scenario!();
    let without_reader = directory.path("notify");
    drop(UnixDatagram::bind(&without_reader).unwrap());
    let without_reader = without_reader.to_str().unwrap();
    let text_of = |errno| io::Error::from_raw_os_error(errno).to_string();
    let (refused, missing) = (text_of(libc::ECONNREFUSED), text_of(libc::ENOENT));
    let long = "/".repeat(200);
    for scenario in [in_foreground(), scenario!()] {
        for (address, reason) in [
            (without_reader, refused.as_str()),
            ("/nowhere/notify", &missing),
            (&long, "path"),
        ] {
            let run = scenario.clone().env(ADDRESS, address).launch();
            run.report();
            run.exit(0);
            let output = run.launcher().output;
            assert!(output.status.success());
            let text = String::from_utf8(output.stderr).unwrap();
            let start = format!("daemonize2: cannot notify the service manager at {address}: ");
            assert!(text.starts_with(&start) && text.contains(reason), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}

/// The manager goes away after the library has opened its socket, and before the
/// notification.
fn a_notification_that_fails_late_is_a_line_on_standard_error() {
    let scenario = in_foreground().initialize([Step::Hold]);
    let (scenario, manager) = notifying(scenario);
    let run = scenario.launch();
    run.held();
    drop(manager);
    run.proceed();
    run.report();
    // `exit` would wait for the parent of the process, as if it were an intermediate.
    run.send_command(&control::Command::Exit(0));
    let text = String::from_utf8(run.launcher().output.stderr).unwrap();
    let start = "daemonize2: cannot notify the service manager at ";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

fn a_failed_notification_without_standard_error_does_not_fail_the_start() {
    for scenario in [in_foreground(), scenario!()] {
        let scenario = scenario.from_state(|state| state.closed = [true; 3]);
        let run = scenario.env(ADDRESS, "/nowhere/notify").launch();
        run.report();
        run.exit(0);
        assert!(run.launcher().output.status.success());
    }
}

/// More than the launcher waits for the manager.
fn launcher_wait() -> Duration {
    scaled(Duration::from_secs(9))
}

fn a_manager_that_does_not_read_delays_a_start_only_briefly() {
    let (scenario, _manager) = with_unread_manager(daemon!(), false);
    // A signal interrupts the wait, which starts again.
    let interrupted = scenario.clone().pid_file("interrupted.pid");
    let interrupted = interrupted.from_state(|state| state.interval_timer = Some(100_000));
    thread::scope(|scope| {
        for scenario in [scenario, interrupted] {
            scope.spawn(move || {
                let began = Instant::now();
                let run = scenario.start();
                run.observe();
                assert!(began.elapsed() < launcher_wait(), "{:?}", began.elapsed());
            });
        }
    });
}

fn a_manager_that_does_not_read_delays_a_foreground_start_only_briefly() {
    let scenario = scenario!().foreground(Foreground::Yes);
    let (scenario, _manager) = with_unread_manager(scenario, false);
    let began = Instant::now();
    let run = scenario.launch();
    run.report();
    assert!(began.elapsed() < launcher_wait(), "{:?}", began.elapsed());
}
