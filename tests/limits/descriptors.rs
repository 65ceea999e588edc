use assert_cmd::assert::OutputAssertExt as _;
use tester::prelude::*;
use tester::sys::Resource;

pub(crate) const CASES: &[Case] = &[
    case!(a_lack_of_descriptors_is_reported_at_every_step),
    case!(a_lack_of_descriptors_leaves_neither_content_nor_lock),
    case!(a_lack_of_descriptors_does_not_make_a_running_daemon_look_ended, needs Root, Linux),
];

/// The kinds of error with few free descriptors, then with one more, and so on until the
/// start succeeds.
#[track_caller]
fn kinds_with_few_descriptors(scenario: &Scenario) -> Vec<String> {
    let used = scenario!().launch().initial().descriptor_numbers();
    let free = (0..).filter(|number| !used.contains(number));
    let mut kinds = Vec::new();
    // The tester itself needs two descriptors.
    for first_unavailable in free.skip(2) {
        let limit = u64::try_from(first_unavailable).unwrap();
        let scenario = scenario.clone();
        let scenario = scenario.from_state(|state| state.limit_descriptors = Some(limit));
        let run = scenario.launch();
        if run.launcher().output.status.success() {
            run.report();
            break;
        }
        let error = run.launcher_error();
        run.assert_nothing_left();
        assert_eq!(error.errno, Some(libc::EMFILE), "{limit}: {error}");
        kinds.push(error.kind_name().to_owned());
    }
    kinds.dedup();
    kinds
}

fn a_lack_of_descriptors_is_reported_at_every_step() {
    let kinds = kinds_with_few_descriptors(&daemon!());
    assert_eq!(kinds, ["Channel", "OpenPidfile"]);
}

fn a_lack_of_descriptors_leaves_neither_content_nor_lock() {
    let mut kinds = Vec::new();
    // The process that runs the tests may have descriptors open.
    let numbers = scenario!().launch().initial().descriptor_numbers();
    let inherited = numbers.iter().filter(|number| (3..100).contains(*number));
    let first = 4 + u64::try_from(inherited.count()).unwrap();
    for limit in first..first + 16 {
        let scenario = daemon!().from_state(|state| state.limit_descriptors = Some(limit));
        let run = scenario.launch();
        if run.launcher().output.status.success() {
            run.assert_pid_file_held();
            break;
        }
        kinds.push(run.launcher_error().kind);
        run.assert_nothing_left();
    }
    let wanted = format!("OpenPidfile({})", libc::EMFILE);
    assert!(kinds.contains(&wanted), "{kinds:?}");
}

/// `signal` opens several files in turn, and each of them may lack a descriptor.
fn a_lack_of_descriptors_does_not_make_a_running_daemon_look_ended() {
    /// The number of free descriptors, set in the process that asks.
    const LEFT: &str = "TESTER_DESCRIPTORS_LEFT";
    const MOST: usize = 6;

    if let Ok(left) = std::env::var(LEFT) {
        let left: usize = left.parse().unwrap();
        let pid_file = PidFile::at(std::env::var("TESTER_PID_FILE").unwrap());
        sys::limit(Resource::Descriptors, 64).unwrap();
        let mut all: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        all.truncate(all.len() - left);
        match pid_file.signal(0) {
            Ok(is_running) => assert!(is_running && left > 1),
            Err(error) => {
                let lack = io::Error::from_raw_os_error(libc::EMFILE).to_string();
                assert!(error.to_string().ends_with(&lack), "{error}");
                assert!(left < MOST, "{left} are not enough");
            }
        }
        return;
    }
    // For a file of another user, root also looks up whose process the daemon is.
    let scenario = daemon!().as_user(65534, 65534);
    let run = scenario.start();
    let case = case!(a_lack_of_descriptors_does_not_make_a_running_daemon_look_ended);
    for left in 0..=MOST {
        let mut again = suite::again(&case.name()).unwrap();
        again.env("TESTER_PID_FILE", scenario.pid_file_path().unwrap());
        again.env(LEFT, left.to_string()).assert().success();
    }
    run.observe();
}
