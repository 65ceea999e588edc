//! Signals: the mask, and the dispositions.

use super::{Inspected, Verdict, facts, names};
use crate::observe;
use crate::report::SignalSet;

pub(super) fn blocked(of: &Inspected) -> Verdict {
    let masks = match &of.facts.threads {
        Some(threads) => threads.iter().map(|thread| thread.blocked).collect(),
        None if of.report.threads == Some(1) => Vec::from_iter(of.report.blocked_signals),
        // The mask of the first thread says nothing about the others.
        None => match of.report.blocked_signals {
            Some(set) if set.is_empty() => vec![set],
            _ => Vec::new(),
        },
    };
    let Some(blocked) = blocked_by_all(masks) else {
        return Verdict::unseen();
    };
    if blocked.is_empty() {
        return Verdict::ok("none", "each signal reaches a thread");
    }
    let descriptors = of.report.descriptors.iter().flatten();
    let accepted = descriptors
        .map(|descriptor| facts::accepted_signals(of.process.pid, descriptor).0)
        .fold(0, |all, one| all | one);
    let seen = names::signals(blocked);
    match (SignalSet(blocked.0 & !accepted), &of.report.descriptors) {
        (left, _) if left.is_empty() => Verdict::ok(seen, "it reads them from a signalfd(2)"),
        (_, None) => Verdict::unknown(
            seen,
            "whether it reads them from a signalfd(2) is not visible",
        ),
        (left, Some(_)) => Verdict::finding(
            seen,
            match left == blocked {
                true => "no thread takes them, and no signalfd(2)".to_owned(),
                false => format!(
                    "no thread takes {}, and no signalfd(2)",
                    names::signals(left)
                ),
            },
        ),
    }
}

/// A signal to the process reaches any thread that does not block it.
fn blocked_by_all(masks: Vec<SignalSet>) -> Option<SignalSet> {
    let masks = masks.into_iter();
    masks.reduce(|one, other| SignalSet(one.0 & other.0))
}

/// Signals of the C library on Linux, which sigaction(3) does not reset.
const RESERVED: [i32; 2] = [32, 33];

/// Signals that daemons ignore on purpose. Nobody else suffers from it.
const HARMLESS: [i32; 12] = [
    libc::SIGHUP,
    libc::SIGPIPE,
    libc::SIGCHLD,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGXFSZ,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGURG,
    libc::SIGIO,
];

const INHERITED: &str = "programs that the daemon executes inherit it";

pub(super) fn ignored(of: &Inspected) -> Verdict {
    let ignored = observe::ignored_signals(&of.report).map(|ignored| {
        let seen = names::signals(ignored);
        let harmful = ignored.iter().filter(|signal| !HARMLESS.contains(signal));
        let harmful = harmful
            .filter(|signal| !cfg!(target_os = "linux") || !RESERVED.contains(signal))
            .fold(SignalSet::default(), SignalSet::with);
        if harmful.contains(libc::SIGTERM) {
            return Verdict::finding(seen, "only SIGKILL stops the daemon");
        }
        if harmful.contains(libc::SIGINT) && harmful.contains(libc::SIGQUIT) {
            let reason = "a shell ignores SIGINT and SIGQUIT for its background jobs";
            return Verdict::finding(seen, format!("{reason}; {INHERITED}"));
        }
        match harmful.is_empty() {
            true if ignored.is_empty() => Verdict::ok(seen, "no program inherits one"),
            true => Verdict::ok(seen, "daemons ignore these on purpose"),
            false => {
                let names = names::signals(harmful);
                let reason = format!("whether it ignores {names} on purpose is not visible");
                Verdict::unknown(seen, format!("{reason}; {INHERITED}"))
            }
        }
    });
    ignored.into()
}

pub(super) fn caught(of: &Inspected) -> Verdict {
    let caught = observe::caught_signals(&of.report).map(|caught| {
        Verdict::ok(
            names::signals(caught),
            "exec(3) resets handlers, so that these are its own",
        )
    });
    caught.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_one_thread_takes_is_not_blocked() {
        let both = SignalSet::default().with(1).with(10);
        let one = SignalSet::default().with(10);
        assert_eq!(blocked_by_all(vec![both, one, both]), Some(one));
        assert_eq!(
            blocked_by_all(vec![both, SignalSet::default()]),
            Some(SignalSet::default())
        );
        assert_eq!(blocked_by_all(Vec::new()), None);
    }
}
