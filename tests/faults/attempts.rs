//! Which calls there are, and what is tried at each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ptr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tester::config::{Disposition, Step};
use tester::harness::{catch, in_parallel};
use tester::slowness::scaled;
use tester::suite::{ALL_FAULTS, FIGURES};
use tester::sys;
use tester::trace::{Fault, How, Role, SyscallRecord};

use crate::judge::Observation;
use crate::kinds::has_errno;
use crate::rows::rows;
use crate::scenes::{Scene, Start, until_alone};
use crate::table::{Condition, Effect, Row, Trial};

/// More than there are processors: a start mostly waits.
const AT_A_TIME: usize = 4;

fn is_thorough() -> bool {
    std::env::var_os(ALL_FAULTS).is_some()
}

// --- Calls -------------------------------------------------------------------

/// A call, with its number among the calls of its name in its process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    process: Role,
    name: String,
    /// The number that the tracer counts.
    occurrence: usize,
    /// The number without the calls of the name service.
    number: usize,
    /// Whether the name service makes the call. The machine, the C library and
    /// installed software decide which calls it makes.
    is_look_up: bool,
    /// Whether the scene itself makes the call fail.
    fails: bool,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [{}]", self.process, self.name, self.number)
    }
}

fn numbered(scene: Scene, records: &[SyscallRecord]) -> Vec<Call> {
    let mut counts = BTreeMap::new();
    // The launcher looks up users and groups first, until one of these calls.
    let next: &[&str] = match scene {
        scene if scene.is_of_root() => &["unshare", "socketpair"],
        _ => &[],
    };
    let mut looks_up = !next.is_empty();
    let numbered = |record: &SyscallRecord| {
        let name = record.call.as_str();
        looks_up &= record.process == Role::Launcher && !next.contains(&name);
        // A module of the name service may load libcap, which reads the bounding set.
        let own = ["getcwd", "getresuid", "capget", "prctl(PR_GET_SECUREBITS)"];
        let is_look_up = looks_up && !own.contains(&name);
        let (occurrence, number) = counts
            .entry((record.process as usize, record.call.clone()))
            .or_insert((0, 0));
        let call = Call {
            process: record.process,
            name: record.call.clone(),
            occurrence: *occurrence,
            number: *number,
            is_look_up,
            fails: record.failed,
        };
        *occurrence += 1;
        *number += usize::from(!is_look_up);
        call
    };
    records.iter().map(numbered).collect()
}

/// The calls of one start, once it was traced.
type Traced = Mutex<Option<&'static [Call]>>;

/// Each scene has a lock of its own, so that starts of several scenes are traced at once.
fn traced(scene: Scene) -> &'static Traced {
    static TRACED: Mutex<BTreeMap<Scene, &'static Traced>> = Mutex::new(BTreeMap::new());
    let mut traced = TRACED.lock().unwrap_or_else(PoisonError::into_inner);
    traced
        .entry(scene)
        .or_insert_with(|| Box::leak(Box::default()))
}

/// The calls of one start.
#[track_caller]
fn calls_of(scene: Scene) -> &'static [Call] {
    let mut calls = traced(scene).lock().unwrap_or_else(PoisonError::into_inner);
    calls.get_or_insert_with(|| {
        let observation = Start::new(scene).observe(&[]);
        observation.assert_as_without_fault(&[]);
        numbered(scene, &observation.traced.calls).leak()
    })
}

/// The next [`calls_of`] are those of another start.
fn forget_calls_of(scene: Scene) {
    *traced(scene).lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The scene's own rows, if there are any, go before those of an ordinary start.
/// In the foreground the launcher does the work of all three processes.
fn rows_of(scene: Scene, call: &Call) -> Vec<&'static Row> {
    let covering = |scene: Scene, process: Role| {
        let rows = rows().iter().filter(move |row| row.scene == scene);
        rows.filter(|row| row.covers(process, &call.name, call.number))
            .collect::<Vec<_>>()
    };
    let processes: &[Role] = match scene {
        Scene::Foreground => &[Role::Intermediate, Role::Daemon, Role::Launcher],
        _ => &[call.process],
    };
    let own = [&[scene], scene.inherits_rows_of()].concat();
    let own = own.iter().map(|scene| covering(*scene, call.process));
    // The machine itself may be a sandbox.
    let others = [Scene::Ordinary, Scene::Sandboxed]
        .into_iter()
        .flat_map(|scene| processes.iter().map(move |process| (scene, *process)))
        .map(|(scene, process)| covering(scene, process));
    own.chain(others)
        .find(|rows| !rows.is_empty())
        .unwrap_or_default()
}

fn mismatches(scene: Scene) -> Vec<String> {
    let calls = calls_of(scene).iter().filter(|call| !call.is_look_up);
    let mut wrong = Vec::new();
    for call in calls.clone() {
        let count = rows_of(scene, call).len();
        if count != 1 {
            wrong.push(format!("{scene:?}: {call} has {count} rows"));
        }
    }
    for row in rows().iter().filter(|row| row.scene == scene) {
        let is_made = |call: &Call| row.covers(call.process, &call.name, call.number);
        if row.condition.is_none() && !calls.clone().any(is_made) {
            wrong.push(format!("{scene:?}: {row} has no call"));
        }
    }
    wrong
}

#[track_caller]
fn assert_calls_and_rows_match(scenes: impl Iterator<Item = Scene>) {
    let wrong: Vec<_> = scenes.flat_map(mismatches).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub(crate) fn every_call_has_a_row_and_every_row_a_call() {
    let all = Scene::ALL.iter().copied();
    assert_calls_and_rows_match(all.filter(|scene| !scene.is_of_root()));
}

pub(crate) fn every_call_of_root_has_a_row_and_every_row_a_call() {
    let all = Scene::ALL.iter().copied();
    assert_calls_and_rows_match(all.filter(|scene| scene.is_of_root()));
}

/// The calls of a scene that are tried, with their rows.
fn tried(scene: Scene) -> Vec<(&'static Call, &'static Row)> {
    let calls = calls_of(scene).iter();
    calls
        .filter(|call| !call.is_look_up && !call.fails)
        .flat_map(|call| rows_of(scene, call).into_iter().map(move |row| (call, row)))
        .filter(|(_, row)| {
            let is_own = row.scene == scene
                || scene.inherits_rows_of().contains(&row.scene)
                || row.condition == Some(Condition::OtherScene);
            is_own || !scene.is_cut_short()
        })
        .collect()
}

/// The first scene that has such a call.
fn home(row: &Row) -> Option<Scene> {
    static HOMES: LazyLock<Vec<(&Row, Scene)>> = LazyLock::new(|| {
        let possible = Scene::ALL.iter().filter(|scene| scene.is_possible());
        in_parallel(AT_A_TIME, possible, |scene| {
            calls_of(*scene);
        });
        let mut homes: Vec<(&Row, Scene)> = Vec::new();
        for scene in Scene::ALL.iter().filter(|scene| scene.is_possible()) {
            for (_, row) in tried(*scene) {
                if !homes.iter().any(|(known, _)| ptr::eq(*known, row)) {
                    homes.push((row, *scene));
                }
            }
        }
        homes
    });
    let mut homes = HOMES.iter();
    homes.find_map(|(known, scene)| ptr::eq(*known, row).then_some(*scene))
}

pub(crate) fn every_row_is_tried() {
    let is_root = Scene::OfRoot.is_possible();
    let untried: Vec<_> = rows()
        .iter()
        .filter(|row| !row.trials.is_empty() && row.by_timing_from > 0)
        .filter(|row| match row.condition {
            Some(Condition::Platform) => false,
            Some(Condition::Root) => is_root,
            _ => is_root || !row.scene.is_of_root(),
        })
        .filter(|row| home(row).is_none())
        .map(Row::to_string)
        .collect();
    assert!(untried.is_empty(), "{}", untried.join("\n"));
}

// --- Attempts ----------------------------------------------------------------

/// One trial of a row at one call.
struct Attempt {
    scene: Scene,
    row: &'static Row,
    trial: &'static Trial,
    call: &'static Call,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}, {}", self.scene, self.call, self.trial.how)?;
        f.write_str(if self.trial.always {
            " from then on"
        } else {
            ""
        })
    }
}

impl Attempt {
    fn fault(&self) -> Fault {
        Fault {
            process: self.call.process,
            call: self.call.name.clone(),
            occurrence: self.call.occurrence,
            how: self.trial.how,
            always: self.trial.always,
        }
    }

    /// The kind that the launcher gets.
    fn kind(&self) -> Option<String> {
        let Trial { how, effect, .. } = *self.trial;
        if matches!(effect, Effect::UnlessForbidden(_)) && sys::is_unshare_forbidden() {
            return None;
        }
        let kind = effect.kind()?;
        Some(match how {
            How::Errno(errno) if has_errno(kind) => format!("{kind}({errno})"),
            _ => kind.to_owned(),
        })
    }

    /// Tries again if the machine was busy with something else.
    fn observe_until_prompt(&self, fault: &Fault) -> Observation {
        /// A launcher waits longer than this for an intermediate that runs, but got
        /// no order to end. A daemon has less time to end by itself.
        const LONG: Duration = Duration::from_millis(3500);
        const TRIES: usize = 6;

        let mut took = Vec::new();
        for _ in 0..TRIES {
            let start = Start::new(self.scene);
            let began = Instant::now();
            let observation = start.observe(std::slice::from_ref(fault));
            took.push(began.elapsed());
            if took.last() < Some(&scaled(LONG)) {
                return observation;
            }
        }
        panic!("the launcher has waited in vain: {took:?}");
    }

    /// Whether the process made such a call.
    fn run(&self) -> bool {
        let fault = self.fault();
        let observation = self.observe_until_prompt(&fault);
        if !observation.has_failed(&fault) {
            let may_be_missing = self.call.number >= self.row.by_timing_from;
            let diagnostics = || observation.diagnostics();
            assert!(
                may_be_missing,
                "no process made the call\n{}",
                diagnostics()
            );
            observation.assert_as_without_fault(&[]);
            return false;
        }
        let Some(kind) = self.kind() else {
            observation.assert_as_without_fault(match self.trial.effect {
                Effect::Except(fields) => fields,
                _ => &[],
            });
            return true;
        };
        let may_be_preempted = matches!(self.trial.effect, Effect::ErrorOr(_));
        let error = observation.traced.launcher_error();
        if may_be_preempted && error.is_some_and(|error| error.kind != kind) {
            // The daemon may have ended, too.
            observation.assert_as_without_fault(&["error: daemon's exit status"]);
            return true;
        }
        observation.assert_fails(Some(&kind));
        let is_returned = self.scene == Scene::Executed
            && self.call.process == Role::Daemon
            && kind != "PrivilegesRetained";
        if is_returned {
            observation.assert_same_error_on_both_sides();
        }
        true
    }
}

/// The attempts in a scene: at a row in the first scene that has such a call, and
/// where other code makes the call; or, if [`ALL_FAULTS`] is set, at each call in each scene.
fn attempts(scene: Scene) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut seen = Vec::new();
    for (call, row) in tried(scene) {
        let is_first = !seen.iter().any(|seen| ptr::eq(*seen, row));
        seen.push(row);
        // Other code makes the same calls.
        let is_made_otherwise = match scene {
            Scene::Foreground => true,
            Scene::Executed => call.process == Role::Daemon,
            Scene::Deferred | Scene::Refusing | Scene::Forgetful => {
                let ends_a_start = row.scene != Scene::Ordinary
                    || row.condition == Some(Condition::OtherScene)
                    || call.name.ends_with("(pair 2)");
                call.process == Role::Daemon && ends_a_start
            }
            _ => false,
        };
        let is_due = is_first && (is_made_otherwise || home(row) == Some(scene));
        let is_enough = row.is_alike && row.scene != scene;
        if !is_due && (!is_thorough() || is_enough) {
            continue;
        }
        let mut known = Vec::new();
        for trial in &row.trials {
            // Only a thorough run tries each errno of the same effect, in the row's
            // own scene.
            let errno = matches!(trial.how, How::Errno(errno) if errno != libc::EINTR);
            let class = (errno, trial.effect);
            let is_each_errno = is_thorough() && row.scene == scene;
            if !is_each_errno && errno && known.contains(&class) {
                continue;
            }
            known.push(class);
            attempts.push(Attempt {
                scene,
                row,
                trial,
                call,
            });
        }
    }
    attempts
}

/// Makes the attempts side by side, and names each that goes wrong. Returns the
/// attempts that hit no call. Such an attempt is repeated, since timing decides whether
/// a process makes some calls.
#[track_caller]
fn attempt_all(attempts: &[Attempt]) -> Vec<String> {
    const TRIES: usize = 4;
    let (wrong, missed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    in_parallel(AT_A_TIME, attempts.iter(), |attempt| {
        match catch(|| (0..TRIES).any(|_| attempt.run())) {
            Ok(true) => {}
            Ok(false) => missed.lock().expect("unpoisoned").push(attempt.to_string()),
            Err(text) => {
                let text = format!("{attempt}: {text}");
                wrong.lock().expect("unpoisoned").push(text);
            }
        }
    });
    let wrong = wrong.into_inner().expect("unpoisoned");
    let (count, all) = (wrong.len(), attempts.len());
    assert!(
        wrong.is_empty(),
        "{count} of {all} went wrong:\n\n{}",
        wrong.join("\n\n")
    );
    missed.into_inner().expect("unpoisoned")
}

#[track_caller]
pub(crate) fn try_each_fault(scene: Scene) {
    const TRIES: usize = 4;
    let (mut attempts, mut missed) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        attempts = self::attempts(scene);
        assert!(!attempts.is_empty());
        missed = attempt_all(&attempts);
        // Timing does not always avoid the call.
        if missed.len() * 4 <= attempts.len() {
            break;
        }
        // On a busy machine, the traced start may have made calls that no other start makes.
        forget_calls_of(scene);
    }
    let all = attempts.len();
    assert!(
        missed.len() * 4 <= all,
        "{} of {all} missed:\n{}",
        missed.len(),
        missed.join("\n")
    );
    if std::env::var_os(FIGURES).is_some() {
        let count =
            |part: fn(&Attempt) -> String| attempts.iter().map(part).collect::<BTreeSet<_>>().len();
        println!(
            "{scene:?}: {} rows, {} calls, {all} faults, {} of them at a call that was made",
            count(|attempt| attempt.row.to_string()),
            count(|attempt| attempt.call.to_string()),
            all - missed.len(),
        );
    }
}

// --- Several faults at once --------------------------------------------------

/// The launcher clears the pid file, since the daemon cannot.
pub(crate) fn the_launcher_clears_the_pid_file_of_an_orphan_without_a_handle() {
    let mut start = Start::new(Scene::Nameless);
    let steps = [until_alone(), Step::KillItself(libc::SIGKILL)];
    start.scenario = start.scenario.privileged_action(steps);
    start.observe(&[]).assert_fails(Some("IntermediateExited"));
}

/// A limit on descriptors in flight keeps the launcher from getting a handle. The
/// launcher has to know that the intermediate takes seconds to end the daemon.
pub(crate) fn the_timeout_ends_a_daemon_without_a_handle() {
    let mut start = Start::new(Scene::Late);
    let ignored = (libc::SIGTERM, Disposition::Ignore);
    start.scenario = (start.scenario).from_state(|state| state.dispositions.push(ignored));
    start.scenario.config.options.reset_signals = false;
    let fault = Fault {
        process: Role::Intermediate,
        call: "sendmsg(pair 1)".to_owned(),
        occurrence: 0,
        how: How::Errno(libc::ETOOMANYREFS),
        always: false,
    };
    let observation = start.observe(&[fault]);
    observation.assert_fails(Some("StartupTimeout"));
    let error = observation.traced.launcher_error().expect("an error");
    assert!(
        error.text.ends_with("; the library terminated the daemon"),
        "{}",
        error.text
    );
}

/// The launcher has never heard of the daemon: the intermediate is killed before it can
/// send its first message.
pub(crate) fn an_orphan_without_a_handle_is_gone_when_the_start_fails() {
    let observation = Start::new(Scene::Ordinary).observe(&[Fault {
        process: Role::Intermediate,
        call: "sendmsg(pair 1)".to_owned(),
        occurrence: 0,
        how: How::Signal(libc::SIGKILL),
        always: false,
    }]);
    observation.assert_fails(Some("IntermediateExited"));
    let error = observation.traced.launcher_error().expect("an error");
    let text = "it was killed by signal 9 (SIGKILL); no daemon is left";
    assert!(error.text.ends_with(text), "{}", error.text);
}

// --- Look-ups ----------------------------------------------------------------

/// The calls that read a database, and the kind of error if one fails.
pub(crate) const DATABASES: [(&str, &str); 4] = [
    ("open(/etc/passwd)", "LookUpUser"),
    ("open(/etc/group)", "LookUpGroup"),
    ("read(/etc/passwd)", "LookUpUser"),
    ("read(/etc/group)", "LookUpGroup"),
];

/// If a look-up cannot read its database, the start fails with that error: the user
/// is not taken for one that does not exist, and no group is left out.
pub(crate) fn a_database_that_cannot_be_read_is_reported() {
    let calls = calls_of(Scene::OfRoot);
    for (call, kind) in DATABASES {
        let errnos: &[i32] = match call.starts_with("open") {
            true => &[libc::EMFILE, libc::ENFILE, libc::EACCES, libc::EIO],
            false => &[libc::EIO],
        };
        let looked_up = calls.iter().filter(|known| known.name == call);
        let occurrences: Vec<_> = looked_up.map(|known| known.occurrence).collect();
        assert!(occurrences.len() > 1, "{call} {occurrences:?}");
        for occurrence in occurrences {
            let errnos = &errnos[..if is_thorough() { errnos.len() } else { 1 }];
            for &errno in errnos {
                let observation = Start::new(Scene::OfRoot).observe(&[Fault {
                    process: Role::Launcher,
                    call: call.to_owned(),
                    occurrence,
                    how: How::Errno(errno),
                    always: true,
                }]);
                // A look-up that has read what it needs stops.
                if call.starts_with("read") && observation.traced.launcher_error().is_none() {
                    observation.assert_as_without_fault(&[]);
                } else {
                    observation.assert_fails(Some(&format!("{kind}({errno})")));
                }
            }
        }
    }
}
