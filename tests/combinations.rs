//! A start with any combination of options has the predicted outcome.

use std::env;
use std::iter;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy as _};
use proptest::test_runner::{TestCaseError, TestRunner};
use tester::axes::{AXES, Choice, Combination};
use tester::config::{Config, Entry};
use tester::control::Message;
use tester::covering::{Random, Space, Strength};
use tester::fixtures::content;
use tester::harness::{PidFile, catch, in_parallel};
use tester::predict::{self, Databases, InitialFiles};
use tester::suite::{Case, FIGURES, Need};
use tester::trace::Role;
use tester::traced_start::TracedStart;
use tester::{case, suite};

fn main() -> ExitCode {
    if let Ok(named) = env::var(NAMED) {
        return try_named(&named);
    }
    if let Ok(seconds) = env::var(SOAK) {
        return soak(&seconds);
    }
    let cases = [
        case!(starts_that_can_succeed_do),
        case!(a_failure_is_reported_whatever_else_is_configured),
        case!(the_first_of_several_failures_is_reported),
        case!(a_random_combination_has_the_predicted_outcome),
        case!(a_kill_of_any_process_leaves_a_complete_daemon_or_nothing, needs Stepping),
    ];
    suite(&[&cases, REGRESSIONS].concat())
}

/// Combinations whose outcome once differed from the prediction. Their text names them, since a
/// seed means another combination with each new value.
macro_rules! regressions {
    ($($name:ident: $combination:literal $(, needs $($need:ident),+)?;)*) => {
        $(fn $name() {
            let combination = $combination.parse().expect("a combination");
            if let Err(mismatch) = verify(&combination) {
                panic!("{mismatch}");
            }
        })*

        const REGRESSIONS: &[Case] = &[$(case!($name $(, needs $($need),+)?)),*];
    };
}

regressions! {
    a_late_daemon_of_another_user_is_ended_without_the_right_to_signal_it:
        "caller=Capable user=Number group=Own deferred_readiness=Kept", needs Root, Linux;
    start_fails_if_another_thread_may_keep_capabilities:
        "caller=Capable user=Number group=Own privileged_action=MakesThread", needs Root, Linux;
    a_failure_before_the_first_closure_leaves_the_closures_alone:
        "pid_file=Directory privileged_action=Observes capture=Witnessed";
    launcher_and_daemon_report_the_same_lock_holder:
        "entry=Execute pid_file=Held";
    a_refused_owner_of_the_pid_file_is_named:
        "pid_file=Fresh chown_pid_file_user=Reserved user=Own";
    a_pid_file_with_another_name_is_refused_before_it_is_locked:
        "pid_file=TwoLinks";
    the_launcher_ends_after_its_notification_is_read:
        "notify=Anybody";
}

/// The environment variable with the only combination to try, in the text of a mismatch.
const NAMED: &str = "TESTER_COMBINATION";

/// The environment variable with the number of seconds in which only random combinations are tried.
const SOAK: &str = "TESTER_SOAK_SECONDS";

/// The environment variable with the seed of the random combinations.
const SEED: &str = "TESTER_SEED";

/// The environment variable that selects all triples of values instead of all pairs.
const TRIPLES: &str = "TESTER_TRIPLES";

fn strength() -> Strength {
    match env::var_os(TRIPLES) {
        Some(_) => Strength::Triples,
        None => Strength::Pairs,
    }
}

/// The environment variable, beside [`NAMED`], with the process to kill, and the call before which
/// it is killed.
const KILLED: &str = "TESTER_KILLED";

fn databases() -> &'static Databases {
    static DATABASES: OnceLock<Databases> = OnceLock::new();
    DATABASES.get_or_init(Databases::read)
}

/// The compatible values: those to which there is no objection.
fn space(objection: impl Fn(&Choice) -> Option<&'static str>) -> Space {
    let sizes: Vec<usize> = AXES.iter().map(|axis| axis.values.len()).collect();
    Space::new(&sizes, |values| objection(&Choice::of(values)).is_none())
}

/// All values that can be set up here.
fn everything() -> &'static Space {
    static SPACE: OnceLock<Space> = OnceLock::new();
    SPACE.get_or_init(|| space(|choice| choice.contradiction(databases())))
}

/// All values that can succeed.
fn harmless() -> &'static Space {
    static SPACE: OnceLock<Space> = OnceLock::new();
    SPACE.get_or_init(|| {
        space(|choice| {
            let contradiction = choice.contradiction(databases());
            contradiction.or_else(|| choice.expected_failure(databases()))
        })
    })
}

/// Starts with a combination, and returns whether the start has succeeded, as predicted. An error
/// names the combination.
fn verify(combination: &Combination) -> Result<bool, String> {
    attempt(|| compare(combination)).map_err(|found| format!("{NAMED}='{combination}'\n{found}"))
}

/// Waits for a permit, and starts. A panic becomes an error.
fn attempt<T>(start: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let started = catch(|| with_permit(start));
    started.unwrap_or_else(|text| Err(format!("  a panic: {text}\n")))
}

/// Limits the number of starts at a time, so that their descriptors stay below the number of the
/// control socket.
fn with_permit<T>(start: impl FnOnce() -> T) -> T {
    const MOST: usize = 30;
    static UNDER_WAY: Mutex<usize> = Mutex::new(0);
    static ENDED: Condvar = Condvar::new();
    struct Permit;
    impl Drop for Permit {
        fn drop(&mut self) {
            *UNDER_WAY.lock().unwrap() -= 1;
            ENDED.notify_one();
        }
    }
    let under_way = UNDER_WAY.lock().unwrap();
    let mut under_way = ENDED
        .wait_while(under_way, |under_way| *under_way >= MOST)
        .unwrap();
    *under_way += 1;
    drop(under_way);
    let _permit = Permit;
    start()
}

fn compare(combination: &Combination) -> Result<bool, String> {
    let mut staged = combination.stage(&tester::tester!(), databases());
    let files = InitialFiles::of(&staged.scenario, databases());
    let mut outcome = staged.scenario.outcome();
    outcome.notifications = staged.notifications();
    let config = &staged.scenario.config;
    let Some(before) = outcome.initial() else {
        let (status, stderr) = (outcome.status, &outcome.stderr);
        return Err(format!("  no start: {status} {stderr:?}\n"));
    };
    let prediction = predict::predict(config, before, &files);
    let found = predict::mismatches(config, before, &prediction, &outcome);
    if found.is_empty() {
        return Ok(prediction.succeeds());
    }
    let mut report: String = found.iter().map(|found| format!("  {found}\n")).collect();
    report += &format!("  configuration: {}\n", without_defaults(config));
    Err(report)
}

/// The process to kill, and its call before which it is killed.
type Kill = (Role, usize);

/// The outcome of a start with a kill.
struct Survived {
    has_succeeded: bool,
    /// Whether the process made such a call.
    was_killed: bool,
}

/// Starts with a combination, and kills a process: the start must leave either a daemon with a
/// complete pid file, or nothing. An error names both.
fn survive(combination: &Combination, kill: Kill) -> Result<Survived, String> {
    let (victim, call) = kill;
    attempt(|| judge_kill(combination, kill))
        .map_err(|found| format!("{KILLED}='{victim} {call}' {NAMED}='{combination}'\n{found}"))
}

fn judge_kill(combination: &Combination, (victim, call): Kill) -> Result<Survived, String> {
    let staged = combination.stage(&tester::tester!(), databases());
    let scenario = staged.scenario.clone().crash(victim, call);
    let path = scenario.pid_file_path();
    let before = path.and_then(|path| Some(PidFile::look(&path).ok()??.bytes));
    let TracedStart {
        outcome,
        signal_hit: killed,
        ..
    } = TracedStart::observe(&scenario, false);
    let messages = || outcome.frames.iter().map(|frame| &frame.message);
    let has = |is: fn(&Message) -> bool| messages().any(is);
    let is_returned_to = has(|message| matches!(message, Message::Daemon(_)));
    // In the foreground, and with deferred readiness, the return is not the commitment.
    let is_committed = match scenario.config.entry {
        // A program may run before.
        Entry::Spawn => outcome.intermediate_left == Some(false),
        _ => {
            is_returned_to
                && (scenario.config.deferred_readiness.is_none()
                    || has(|message| *message == Message::Acknowledged))
        }
    };
    let (was_killed, has_succeeded) = (killed.is_some(), outcome.status.success());
    let mut found: Vec<_> = outcome.trouble.iter().cloned().collect();
    let end = outcome.pid_file_at_end.clone().flatten();
    if end.as_ref().is_some_and(|file| file.locked) {
        found.push("the pid file is locked by nobody".to_owned());
    }
    if was_killed && victim != Role::Daemon && has_succeeded && !is_committed {
        found.push("a success without a daemon".to_owned());
    }
    if was_killed && victim == Role::Intermediate && !has_succeeded && is_committed {
        found.push("a daemon without a success".to_owned());
    }
    let bytes = end.map(|file| file.bytes).unwrap_or_default();
    // A daemon that is killed after the commitment may leave its pid.
    let of_killed = killed.map(|killed| content(killed.process));
    // Just before the acknowledgement only the daemon is left to clear the file, and it may not be
    // able to write to the file any more: see SECURITY.md.
    let options = &scenario.config.options;
    let may_stay = options.chroot.is_some()
        || options.user.is_some()
        || options.group.is_some()
        || options.pid_file_mode.is_some_and(|mode| mode & 0o200 == 0);
    let is_harmless = match victim {
        Role::Daemon => Some(&bytes) == of_killed.as_ref(),
        Role::Launcher | Role::Intermediate => may_stay,
    };
    if !is_committed && !bytes.is_empty() && Some(&bytes) != before.as_ref() && !is_harmless {
        let text = String::from_utf8_lossy(&bytes);
        found.push(format!("the pid file says {text:?}"));
    }
    if !was_killed && !has_succeeded {
        found.push("a failure, though nobody was killed".to_owned());
    }
    if found.is_empty() {
        return Ok(Survived {
            has_succeeded,
            was_killed,
        });
    }
    let config = without_defaults(&scenario.config);
    let found: String = found.iter().map(|found| format!("  {found}\n")).collect();
    let said: Vec<_> = messages()
        .map(|message| format!("{message:.60?}"))
        .collect();
    Err(format!(
        "{found}  {} {:?}\n  said: {said:?}\n  configuration: {config}\n",
        outcome.status, outcome.stderr,
    ))
}

/// A random start that can succeed and that forks, and a random kill.
fn random_kill(random: &mut Random) -> (Combination, Kill) {
    // The tracer tells the processes apart by their order, and would take a thread of the launcher
    // for the intermediate.
    let is_left_out = |name| ["foreground", "threads"].contains(&name);
    let mut row = harmless().random_row(random);
    for (place, axis) in row.iter_mut().zip(AXES) {
        if is_left_out(axis.name) {
            *place = 0;
        }
    }
    let victim = Role::ALL[random.below(Role::ALL.len())];
    let call = random.below(45);
    (
        Combination::from_places(&harmless().nearest(&row)),
        (victim, call),
    )
}

fn a_kill_of_any_process_leaves_a_complete_daemon_or_nothing() {
    let killed = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    in_parallel(workers(), 0..60, |seed| {
        let (combination, kill) = random_kill(&mut Random::new(seed));
        match survive(&combination, kill) {
            Ok(survived) => {
                killed.fetch_add(usize::from(survived.was_killed), Ordering::Relaxed);
            }
            Err(failure) => failures.lock().unwrap().push(failure),
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} such as\n{}",
        failures.len(),
        failures[0]
    );
    let killed = killed.into_inner();
    println!("KILLED {killed}");
}

/// The fields of the configuration that differ from the default, by their text.
fn without_defaults(config: &Config) -> String {
    let text = format!("{config:?}");
    let defaults = [": None", ": false", ": 0", ": []", ": Inherited"];
    let fields = text.split(", ");
    let set = fields.filter(|field| !defaults.iter().any(|default| field.ends_with(default)));
    set.collect::<Vec<_>>().join(", ")
}

/// The outcomes of many starts.
#[derive(Default)]
struct Tally {
    succeeded: AtomicUsize,
    failed: AtomicUsize,
    mismatches: Mutex<Vec<String>>,
}

impl Tally {
    fn count(&self, verified: Result<bool, String>) {
        match verified {
            Ok(true) => self.succeeded.fetch_add(1, Ordering::Relaxed),
            Ok(false) => self.failed.fetch_add(1, Ordering::Relaxed),
            Err(mismatch) => {
                self.mismatches.lock().unwrap().push(mismatch);
                0
            }
        };
    }

    fn sum_up(self, took: Duration) -> (String, Vec<String>) {
        let (succeeded, failed) = (self.succeeded.into_inner(), self.failed.into_inner());
        let mismatches = self.mismatches.into_inner().unwrap();
        let starts = succeeded + failed + mismatches.len();
        let seconds = took.as_secs_f64();
        let summary = format!(
            "{starts} starts, {succeeded} succeeded, {failed} failed as predicted, {} mismatches, \
             {seconds:.1} s, {:.0} starts a second",
            mismatches.len(),
            starts as f64 / seconds,
        );
        (summary, mismatches)
    }
}

/// A start waits for processes some of its time.
fn workers() -> usize {
    2 * thread::available_parallelism().map_or(1, NonZero::get)
}

/// The number of workers for combinations that mostly wait.
const WAITING_WORKERS: usize = 16;

/// Tries all rows. Returns the numbers of successes and failures.
fn verify_all(name: &str, rows: &[Vec<usize>]) -> (usize, usize) {
    let tally = Tally::default();
    let rows = rows.iter().map(|row| Combination::from_places(row));
    let (waiting, busy): (Vec<_>, Vec<_>) = rows.partition(Combination::waits);
    let began = Instant::now();
    thread::scope(|scope| {
        let verify = |combination| tally.count(verify(&combination));
        scope.spawn(move || in_parallel(WAITING_WORKERS, waiting.into_iter(), verify));
        in_parallel(workers(), busy.into_iter(), verify);
    });
    let counts = [&tally.succeeded, &tally.failed].map(|count| count.load(Ordering::Relaxed));
    let (summary, mut mismatches) = tally.sum_up(began.elapsed());
    if env::var_os(FIGURES).is_some() {
        let values: usize = AXES.iter().map(|axis| axis.values.len()).sum();
        println!("{name}: {} axes, {values} values, {summary}", AXES.len());
    }
    // The simplest mismatch comes first.
    mismatches.sort_by_key(String::len);
    let shown: String = mismatches.iter().take(5).cloned().collect();
    assert!(mismatches.is_empty(), "{summary}, such as\n{shown}");
    counts.into()
}

fn starts_that_can_succeed_do() {
    let space = harmless();
    let rows = space.cover(strength(), 1);
    assert_eq!(space.uncovered(strength(), &rows), 0);
    let (_, failed) = verify_all("what can succeed", &rows);
    assert_eq!(failed, 0, "the predicted failures of what can succeed");
}

/// A row of harmless values, except for these.
fn harmless_but_for(
    (all, harmless): (&Space, &Space),
    values: &[(usize, usize)],
    random: &mut Random,
) -> Vec<usize> {
    let axis_of = |name| AXES.iter().position(|axis| axis.name == name).unwrap();
    let pid_file = axis_of("pid_file");
    let mut names = AXES[pid_file].values.iter();
    let fresh = names.position(|name| *name == "Fresh").unwrap();
    loop {
        let mut row = harmless.random_row(random);
        for &(axis, value) in values {
            row[axis] = value;
            let name = AXES[axis].name;
            let is_of_pid_file = name.starts_with("chown_") || name == "pid_file_mode";
            if is_of_pid_file && row[pid_file] == 0 {
                // Without a pid file, its owner is not looked up, and its mode is not checked.
                row[pid_file] = fresh;
            }
        }
        if all.allows(&row) {
            return row;
        }
    }
}

/// The values that make every start fail, as axis and value, and those that fail for a lack of
/// rights of the user that runs the tests.
fn obstacles(all: &Space, harmless: &Space) -> [Vec<(usize, usize)>; 2] {
    let values = (0..AXES.len()).flat_map(|axis| {
        let harmless: Vec<_> = harmless.values(axis).collect();
        let obstacles = all
            .values(axis)
            .filter(move |value| !harmless.contains(value));
        obstacles.map(move |value| (axis, value))
    });
    let (to_all, lacking_rights) = values.partition(|&value| Choice::of(&[value]).always_fails());
    [to_all, lacking_rights]
}

/// Tries each failing value with many harmless ones.
fn a_failure_is_reported_whatever_else_is_configured() {
    let times = match strength() {
        Strength::Pairs => 8,
        Strength::Triples => 40,
    };
    let (all, harmless) = (everything(), harmless());
    let mut random = Random::new(2);
    let [failing, lacking_rights] = obstacles(all, harmless).map(|values| -> Vec<_> {
        let each = values
            .into_iter()
            .flat_map(|value| iter::repeat_n(value, times));
        each.map(|value| harmless_but_for((all, harmless), &[value], &mut random))
            .collect()
    });
    let (succeeded, _) = verify_all("a single failure", &failing);
    assert_eq!(succeeded, 0, "starts that cannot succeed");
    verify_all("a lack of rights", &lacking_rights);
}

/// Tries each two failing values with harmless ones, and then any values.
fn the_first_of_several_failures_is_reported() {
    let (all, harmless) = (everything(), harmless());
    let mut random = Random::new(3);
    let [failing, _] = obstacles(all, harmless);
    let mut rows = Vec::new();
    for (index, &one) in failing.iter().enumerate() {
        for &other in &failing[index + 1..] {
            if one.0 != other.0
                && Choice::of(&[one, other])
                    .contradiction(databases())
                    .is_none()
            {
                rows.push(harmless_but_for(
                    (all, harmless),
                    &[one, other],
                    &mut random,
                ));
            }
        }
    }
    let (succeeded, _) = verify_all("two failures", &rows);
    assert_eq!(succeeded, 0, "starts that cannot succeed");

    let rows = all.cover(strength(), 4);
    assert_eq!(all.uncovered(strength(), &rows), 0);
    verify_all("several failures", &rows);
}

/// A harmless row, except for a few values, which may fail.
fn mixed(all: &Space, harmless: &Space, row: &[usize], changes: &[(usize, usize)]) -> Combination {
    let mut row = harmless.nearest(row);
    for &(axis, value) in changes {
        let before = row[axis];
        row[axis] = value % AXES[axis].values.len();
        if !all.allows(&row) {
            row[axis] = before;
        }
    }
    Combination::from_places(&row)
}

/// The test runner reduces a mismatch to the simplest combination.
fn a_random_combination_has_the_predicted_outcome() {
    let mut config = ProptestConfig::default();
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 64;
    }
    // A mismatch becomes a regression case.
    config.failure_persistence = None;
    config.max_shrink_iters = 400;
    let (all, harmless) = (everything(), harmless());
    let row: Vec<_> = AXES.iter().map(|axis| 0..axis.values.len()).collect();
    let changes = vec((0..AXES.len(), 0..usize::MAX), 0..3);
    let strategy = (row, changes).prop_map(|(row, changes)| mixed(all, harmless, &row, &changes));
    let result = TestRunner::new(config).run(&strategy, |combination| {
        verify(&combination).map(drop).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn try_named(named: &str) -> ExitCode {
    let kill = env::var(KILLED).ok().map(|kill| -> Kill {
        let (victim, call) = kill.split_once(' ').expect("a process and a number");
        (
            Role::named(victim).expect("a process"),
            call.parse().expect("a number"),
        )
    });
    let verified = named.parse().and_then(|combination| match kill {
        Some(kill) => survive(&combination, kill).map(|survived| survived.has_succeeded),
        None => verify(&combination),
    });
    match verified {
        Ok(succeeds) => {
            println!(
                "as predicted: {}",
                if succeeds { "success" } else { "failure" }
            );
            ExitCode::SUCCESS
        }
        Err(mismatch) => {
            println!("{mismatch}");
            ExitCode::FAILURE
        }
    }
}

/// Tries random combinations. Each has a seed of its own, so the same first seed means the same
/// combinations, whatever the number of processors.
fn soak(seconds: &str) -> ExitCode {
    let began = Instant::now();
    let seconds = seconds.parse().expect("a number of seconds");
    let ends = began + Duration::from_secs(seconds);
    let seed: u64 = match env::var(SEED) {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    };
    println!("seed: {SEED}={seed}");
    let (all, harmless) = (everything(), harmless());
    let can_step = Need::Stepping.unmet().is_none();
    let tally = Tally::default();
    let next = AtomicU64::new(seed);
    thread::scope(|scope| {
        for _ in 0..workers() {
            scope.spawn(|| {
                while Instant::now() < ends {
                    let mut random = Random::new(next.fetch_add(1, Ordering::Relaxed));
                    let row = harmless.random_row(&mut random);
                    let changes: Vec<_> = (0..random.below(3))
                        .map(|_| (random.below(AXES.len()), random.below(usize::MAX)))
                        .collect();
                    // A process is killed in every fifth start.
                    let verified = match random.below(5) {
                        0 if can_step => {
                            let (combination, kill) = random_kill(&mut random);
                            survive(&combination, kill).map(|survived| survived.has_succeeded)
                        }
                        _ => verify(&mixed(all, harmless, &row, &changes)),
                    };
                    if let Err(mismatch) = &verified {
                        println!("{mismatch}");
                    }
                    tally.count(verified);
                }
            });
        }
    });
    let (summary, mismatches) = tally.sum_up(began.elapsed());
    println!("{summary}");
    match mismatches.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
