//! The use of a readiness.

use std::error::Error;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use daemonize2::Readiness;

use super::closures::Product;
use super::commands::{run_other_daemon, start_another};
use super::{describe, expect, own_report, send, within};
use crate::config::{Bytes, Deferral, ReadinessUse};
use crate::control::Message;
use crate::sys::{self, Mark};
use crate::texts::panic_or_place;

/// Returns a readiness that the daemon keeps.
pub(super) fn use_readiness(
    readiness: Readiness,
    deferral: &Deferral,
    payload: Option<&Bytes>,
) -> Option<Readiness> {
    // The harness looks at the results of the steps while the readiness is used.
    let _product = Product::default().made_by(&deferral.steps);
    let readiness = match &deferral.in_copy {
        None => readiness,
        Some(usage) => match expect(copy_process(deferral.copy_has_same_pid), "fork") {
            None => {
                let _kept = apply_use(readiness, usage, payload);
                sys::exit_at_once(0);
            }
            Some(copy) => {
                send(Message::Copied(copy));
                expect(sys::wait_for_child(copy), "wait for the copy");
                readiness
            }
        },
    };
    if let Some(start) = &deferral.in_another {
        if start_another(start) {
            drop(readiness);
            run_other_daemon();
        }
    }
    let usage = deferral.usage.clone();
    if deferral.in_thread {
        let before = own_report().threads;
        let payload = payload.cloned();
        let thread = thread::spawn(move || apply_use(readiness, &usage, payload.as_ref()));
        let left = thread.join().unwrap_or_default();
        // The thread may still be counted for a while.
        while own_report().threads > before {
            thread::yield_now();
        }
        left
    } else {
        apply_use(readiness, &usage, payload)
    }
}

fn copy_process(has_same_pid: bool) -> io::Result<Option<u32>> {
    if has_same_pid {
        sys::fork_with_same_pid()
    } else {
        sys::fork()
    }
}

fn apply_use(
    readiness: Readiness,
    usage: &ReadinessUse,
    payload: Option<&Bytes>,
) -> Option<Readiness> {
    match usage {
        ReadinessUse::Ready => {
            let report = || match payload {
                Some(payload) => readiness.ready_with(&payload.0),
                None => readiness.ready(),
            };
            send(match within(Mark::Return, report) {
                Ok(()) => Message::Acknowledged,
                Err(error) => Message::NotAcknowledged(describe(&error)),
            });
            None
        }
        ReadinessUse::Fail(text) => within(Mark::Return, || readiness.fail(text)),
        ReadinessUse::FailWith(text, payload) => {
            within(Mark::Return, || readiness.fail_with(text, &payload.0))
        }
        ReadinessUse::FailAndReturnWith(text, payload) => {
            let fail = || readiness.fail_and_return_with(text, &payload.0);
            let error = within(Mark::Return, fail);
            send(Message::NotAcknowledged(describe(&error)));
            None
        }
        ReadinessUse::FailAndReturn(text) => {
            let error = within(Mark::Return, || readiness.fail_and_return(text));
            send(Message::NotAcknowledged(describe(&error)));
            None
        }
        ReadinessUse::Serve(server) => {
            let served = readiness.serve(|readiness| {
                let _product = server.apply_to(Product::default())?;
                apply_use(readiness, &ReadinessUse::Ready, payload);
                Ok(())
            });
            send(Message::Served(
                served.map_err(|error: Box<dyn Error>| format!("{error:#}")),
            ));
            None
        }
        ReadinessUse::Drop => {
            within(Mark::Return, || drop(readiness));
            None
        }
        ReadinessUse::DropByPanic(text) => {
            let dropping = move || {
                let _readiness = readiness;
                panic_or_place(Some(text));
            };
            match panic::catch_unwind(AssertUnwindSafe(dropping)) {
                Ok(()) | Err(_) => None,
            }
        }
        ReadinessUse::Keep => Some(readiness),
    }
}
