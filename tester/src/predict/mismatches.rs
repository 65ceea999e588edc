//! Compares an outcome with its prediction.

use std::os::unix::process::ExitStatusExt;

use super::judge::{Judge, Mismatch, judge_text};
use super::{judge_files, judge_reports};
use crate::config::{Config, Life, ReadinessUse};
use crate::control::Message;
use crate::harness::Outcome;
use crate::model::failure::Failure;
use crate::model::start::{Prediction, Side};
use crate::report::{LauncherResult, Report, StartError};
use crate::subject::EXIT_START_FAILED;

/// The fields in which the outcome differs from the prediction.
pub fn mismatches(
    config: &Config,
    before: &Report,
    prediction: &Prediction,
    outcome: &Outcome,
) -> Vec<Mismatch> {
    let mut judge = Judge::default();
    let prediction = &judge_files::with_new_files(prediction, outcome);
    judge.compare("trouble", None, outcome.trouble.as_deref());
    judge_launcher(&mut judge, config, prediction, outcome);
    judge_messages(&mut judge, config, prediction, outcome);
    judge_reports::judge_reports(&mut judge, before, prediction, outcome);
    judge_files::judge_pid_file(&mut judge, prediction, outcome);
    judge_files::judge_files(&mut judge, prediction, outcome);
    let pid = outcome.daemon().unwrap_or_default().to_string();
    let notified = prediction
        .notified
        .iter()
        .map(|line| match line.strip_suffix('=') {
            Some(_) => format!("{line}{pid}"),
            None => (*line).to_owned(),
        });
    let notified: Vec<_> = notified.collect();
    judge.compare(
        "the service manager is told",
        &notified,
        &outcome.notifications,
    );
    judge.into_mismatches()
}

fn judge_launcher(judge: &mut Judge, config: &Config, prediction: &Prediction, outcome: &Outcome) {
    let is_dropped = prediction.is_foreground && matches!(config.life, Life::Exit(_));
    let status = match prediction.failure {
        Some(_) if !is_dropped => EXIT_START_FAILED.into(),
        None if prediction.launcher_panics => 101,
        _ => 0,
    };
    judge.compare("launcher: exit status", Some(status), outcome.status.code());
    judge.compare("launcher: signal", None, outcome.status.signal());
    // If the daemon fails under `execute`, its caller ends it.
    let is_callers =
        config.entry.returns_in_both() && matches!(prediction.failure, Some((_, Side::Daemon)));
    if !prediction.is_foreground && !is_callers {
        let is_alone = prediction.failure.is_some();
        judge.compare(
            "nobody of the start lives when the launcher has ended",
            is_alone,
            outcome.nobody_left,
        );
    }
    judge.compare(
        "the intermediate is left",
        outcome.intermediate_left.map(|_| false),
        outcome.intermediate_left,
    );
    judge.compare(
        "seen from outside: differences",
        outcome.differences.as_ref().map(|_| Vec::new()),
        outcome.differences.clone(),
    );
    let texts = [&outcome.stdout, &outcome.stderr];
    for ((stream, text), file) in ["output", "error"]
        .into_iter()
        .zip(texts)
        .zip(&outcome.output_files)
    {
        let field = format!("launcher: standard {stream}");
        judge_text(judge, field, prediction, (file.device, file.inode), text);
    }
}

/// Compares the messages: each predicted message is sent, and no other.
fn judge_messages(judge: &mut Judge, config: &Config, prediction: &Prediction, outcome: &Outcome) {
    use Message::{DaemonFailed, LauncherFailed};
    let (failure, side) = match &prediction.failure {
        Some((failure, side)) => (Some(failure), Some(*side)),
        None => (None, None),
    };
    let in_both = config.entry.returns_in_both();
    let is_foreground = prediction.is_foreground;
    let launcher_fails = match side {
        Some(Side::Gone | Side::Returned) => !is_foreground,
        Some(Side::Launcher | Side::Daemon) => !is_foreground || !in_both,
        None => false,
    };
    let daemon_fails = in_both
        && match side {
            Some(Side::Launcher) => is_foreground,
            Some(Side::Daemon) => true,
            Some(Side::Gone | Side::Returned) | None => false,
        };
    let usage = config
        .deferred_readiness
        .as_ref()
        .map(|deferral| &deferral.usage);
    let returns = matches!(side, Some(Side::Returned) | None);
    let ends = matches!(usage, Some(ReadinessUse::Fail(_)));
    let daemon = outcome.daemon();

    let mut messages = Vec::new();
    for frame in &outcome.frames {
        if let (Some(failure), LauncherFailed(error) | DaemonFailed(error)) =
            (failure, &frame.message)
        {
            judge_error(judge, failure, error);
        }
        let who = match frame.sender {
            sender if sender == outcome.launcher && !is_foreground => "launcher",
            sender if daemon.is_none_or(|daemon| sender == daemon) => "daemon",
            _ => "copy",
        };
        messages.push(match &frame.message {
            Message::Initial(_) => continue,
            Message::Observed(_) | Message::Daemon(_) | Message::Now(_) => continue,
            Message::Afterwards(_) | Message::Unreaped(_) => continue,
            LauncherFailed(error) => format!("{who} failed: {}", error.kind_name()),
            DaemonFailed(error) => format!("{who} fails: {}", error.kind_name()),
            Message::LauncherReturned(result) => {
                format!("{who} returned: {}", result_text(result, daemon))
            }
            Message::Started(result) => format!("{who} started: {}", result_text(result, daemon)),
            Message::Acknowledged => format!("{who} acknowledged"),
            Message::NotAcknowledged(error) => format!("{who} not acknowledged: {}", error.text),
            Message::Copied(_) => format!("{who} copied itself"),
            Message::Result(parts) => format!("{who} result: {parts:?}"),
            other => format!("{who} {other:?}"),
        });
    }
    let mut must = prediction.messages.clone();
    if let Some(failure) = failure {
        // In the foreground, the launcher is the daemon.
        let who = if is_foreground { "daemon" } else { "launcher" };
        if launcher_fails {
            must.push(format!("{who} failed: {}", failure.kind));
        }
        if daemon_fails {
            must.push(format!("daemon fails: {}", failure.kind));
        }
    } else {
        let result = format!("0 None {:?}", prediction.payload);
        let returns = config.entry.returns_in_launcher();
        if returns && !is_foreground && !prediction.launcher_panics {
            must.push(format!("launcher returned: {result}"));
        }
        if config.on_started.is_some() && !is_foreground {
            must.push(format!("launcher started: {result}"));
        }
        if usage == Some(&ReadinessUse::Ready) {
            must.push("daemon acknowledged".to_owned());
        }
    }
    if returns && !ends && !prediction.parts.is_empty() {
        must.push(format!("daemon result: {:?}", prediction.parts));
    }
    messages.sort();
    must.sort();
    judge.compare("messages", must, messages);
}

/// What the launcher gets, with the pid only if it is not that of the daemon.
fn result_text(result: &LauncherResult, daemon: Option<u32>) -> String {
    let LauncherResult {
        daemon_pid,
        first_child_exit_status,
        payload,
    } = result;
    let pid = (Some(*daemon_pid) != daemon).then_some(daemon_pid);
    format!("{first_child_exit_status} {pid:?} {payload:?}")
}

fn judge_error(judge: &mut Judge, must: &Failure, is: &StartError) {
    judge.compare("error: kind", must.kind, is.kind_name());
    judge.compare("error: errno", must.errno, is.errno);
    judge.compare("error: path", must.path.as_ref(), is.path.as_ref());
    // Elsewhere not every process can be verified.
    if cfg!(target_os = "linux") {
        judge.compare("error: running pid", must.running_pid, is.running_pid);
    }
    judge.compare(
        "error: daemon's exit status",
        must.status,
        is.daemon_exit_status,
    );
    let payload = must.payload.as_deref().cloned().unwrap_or_default();
    judge.compare("error: payload", &payload, &is.payload);
    judge.compare("error: text", must.text().as_str(), &is.text);
}
