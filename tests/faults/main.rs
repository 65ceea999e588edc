//! Every call fails in turn. The launcher gets the exact kind and errno and no
//! process, lock or pid file is left; or the start succeeds as without the fault.
//!
//! No list of calls is known beforehand. A start is traced, each call of the library
//! needs a row in [`rows`], and each row needs a call. [`tester::trace`] explains
//! how a call is named. Different starts make different calls: each [`scenes::Scene`]
//! is such a start. [`judge`] compares each start with the model.
//!
//! # Reading a failure
//!
//! `Untidy: intermediate open(work/run/daemon.new) [1], errno 28: ...` means: in that
//! scene, the second such call of the intermediate fails with errno 28, and the kernel
//! never sees it. Then follow the fields in which the start differs from the model,
//! and all calls. A call without a row is new, or only this C library makes it: look
//! in its man page for the errors, decide what the launcher is to get, and add a row.
//!
//! # How much is tried
//!
//! Each row is tried in the first scene that has such a call: at the first call, with
//! the first of the errnos that have the same effect, and in its other ways. It is
//! tried once more where other code makes the call: under `execute`, in the foreground,
//! by a readiness. If [`ALL_FAULTS`](tester::suite::ALL_FAULTS) is set in the environment, as `ci/test.sh`
//! does, every call is tried in every scene, and each errno in the row's own scene.
//! If [`FIGURES`](tester::suite::FIGURES) is set, each case prints numbers. A fault must hit a call,
//! except where timing decides whether the process makes the call.
//!
//! A fake success is a call that does nothing and returns 0. It is tried where real
//! systems do so: sandboxes that pretend to be root, file systems without owners and
//! modes, and pid namespaces. An identity, a root directory, an owner or a mode that
//! is not as it was set fails the start.
//!
//! Some faults are not tried. Some calls have no errors in their man pages. Rust
//! aborts if the allocator's calls fail; the intermediate does not allocate, so that
//! it has no row for such a call. The machine decides which calls the name service
//! makes. A daemon that waits for the acknowledgement does not get an end of file:
//! the launcher's own end does not show it, and the start may be committed by then.

use std::process::ExitCode;

use tester::{case, suite};

#[macro_use]
mod table;

mod attempts;
mod judge;
mod kinds;
mod rows;
mod scenes;

use attempts::*;
use kinds::every_kind_of_error_is_provoked;
use scenes::*;

fn main() -> ExitCode {
    suite(&[
        case!(every_call_has_a_row_and_every_row_a_call, needs Faults),
        case!(every_call_of_root_has_a_row_and_every_row_a_call, needs Root, TestUser, Tracing, Faults),
        case!(every_row_is_tried, needs Faults),
        case!(a_fault_in_an_ordinary_start_is_reported_or_harmless, needs Faults),
        case!(a_fault_in_a_start_of_root_is_reported_or_harmless, needs Root, TestUser, Tracing, Faults),
        case!(a_fault_in_a_start_that_keeps_capabilities_is_reported_or_harmless, needs Root, TestUser, Tracing, Faults),
        case!(a_fault_in_a_sandbox_is_reported_or_harmless, needs Faults),
        case!(a_fault_in_an_untidy_start_is_reported_or_harmless, needs Faults),
        case!(a_fault_in_opening_log_files_is_reported_or_harmless, needs Faults),
        case!(a_fault_beside_a_running_daemon_is_harmless, needs Faults),
        case!(a_fault_after_a_failure_does_not_hide_the_failure, needs Faults),
        case!(a_fault_after_a_panic_does_not_hide_the_panic, needs Faults),
        case!(a_fault_after_the_daemons_exit_does_not_hide_the_exit, needs Faults),
        case!(a_fault_after_the_timeout_is_harmless, needs Faults),
        case!(a_fault_after_the_intermediate_is_killed_is_harmless, needs Faults),
        case!(a_fault_where_the_launcher_has_no_handle_is_harmless, needs Faults),
        case!(the_launcher_clears_the_pid_file_of_an_orphan_without_a_handle, needs Faults),
        case!(the_timeout_ends_a_daemon_without_a_handle, needs Faults),
        case!(an_orphan_without_a_handle_is_gone_when_the_start_fails, needs Faults),
        case!(a_fault_after_the_launcher_is_killed_is_harmless, needs Faults),
        case!(a_fault_in_a_daemon_that_is_alone_is_harmless, needs Faults),
        case!(a_fault_under_execute_is_reported_on_both_sides, needs Faults),
        case!(a_fault_in_getting_ready_is_reported_or_harmless, needs Faults),
        case!(a_fault_after_a_refusal_does_not_hide_the_refusal, needs Faults),
        case!(a_fault_after_a_dropped_readiness_does_not_hide_the_drop, needs Faults),
        case!(a_fault_in_a_clean_exit_is_harmless, needs Faults),
        case!(a_fault_in_an_upgrade_is_reported_or_harmless, needs Faults),
        case!(a_fault_in_executing_a_program_is_reported_or_harmless, needs Faults),
        case!(a_fault_in_awaiting_a_notification_is_reported_or_harmless, needs Faults),
        case!(a_fault_in_awaiting_a_line_is_reported_or_harmless, needs Faults),
        case!(a_fault_after_a_failed_execution_does_not_hide_the_failure, needs Faults),
        case!(a_fault_in_the_foreground_is_returned_or_harmless, needs Faults),
        case!(a_database_that_cannot_be_read_is_reported, needs Root, TestUser, Tracing, Faults),
        case!(every_kind_of_error_is_provoked),
    ])
}
