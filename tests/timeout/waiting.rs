use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use tester::prelude::*;
use tester::subject;

pub(crate) const CASES: &[Case] = &[
    case!(launcher_and_intermediate_use_no_processor_time_while_they_wait, needs Linux),
    case!(a_launcher_uses_no_processor_time_while_the_intermediate_is_stopped, needs Linux),
    case!(a_full_standard_output_does_not_outlast_the_timeout, needs Linux),
];

/// The processor time of a process in hundredths of a second: `utime` and `stime` of
/// proc(5).
fn processor_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let times = fields.split(' ').skip(11).take(2);
    times.map(|time| time.parse::<u64>().unwrap()).sum()
}

/// These processes use no processor time for a second, in which the launcher waits.
#[track_caller]
fn assert_idle<const COUNT: usize>(run: &Run, waiting: [u32; COUNT]) {
    const SECOND: Duration = Duration::from_secs(1);

    let before = waiting.map(processor_time);
    assert!(
        !run.handle(run.launcher_pid())
            .wait(Instant::now() + SECOND)
            .unwrap()
    );
    let after = waiting.map(processor_time);
    for (before, after) in before.iter().zip(after) {
        let used = after - before;
        assert!(used < 5, "{used} hundredths of a second");
    }
}

fn launcher_and_intermediate_use_no_processor_time_while_they_wait() {
    let with_timeout = daemon!().startup_timeout(scaled(Duration::from_secs(60)));
    for scenario in [daemon!(), with_timeout] {
        let run = scenario.privileged_action([Step::Hold]).launch();
        let waiting = [run.launcher_pid(), run.held().ppid];
        assert_idle(&run, waiting);
    }
}

/// The launcher waits for the last message of the intermediate.
fn a_launcher_uses_no_processor_time_while_the_intermediate_is_stopped() {
    let run = daemon!().privileged_action([Step::Hold]).launch();
    let intermediate = run.held().ppid;
    sys::kill(intermediate, libc::SIGSTOP).unwrap();
    run.proceed();
    assert_idle(&run, [run.launcher_pid()]);
    sys::kill(intermediate, libc::SIGCONT).unwrap();
    run.launcher().assert().success();
}

fn a_full_standard_output_does_not_outlast_the_timeout() {
    let mut child = Command::new(tester::tester!())
        .arg(subject::START_WITH_FULL_OUTPUT)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run it");
    let errors = BufReader::new(child.stderr.take().expect("it is piped"));
    let (said, hear) = mpsc::channel();
    thread::spawn(move || said.send(errors.lines().next()));
    let line = hear.recv_timeout(time_limit());
    // The tester may go on writing.
    drop(child.stdout.take());
    if line.is_err() {
        let _ = child.kill();
    }
    child.wait().expect("wait for it");
    let line = line.expect("it ends in time").expect("a line");
    let text = "the daemon was not ready in time: the launcher cannot flush standard output, \
                because no process reads it";
    assert_eq!(line.expect("text"), text);
}
