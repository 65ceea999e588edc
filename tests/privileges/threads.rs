use tester::prelude::*;
use tester::sys::{CAP_SETGID, CAP_SETUID, NO_SETUID_FIXUP};

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(threads_of_the_privileged_action_drop_their_privileges, needs Root, Linux),
    case!(start_fails_if_another_thread_keeps_capabilities, needs Root, Linux),
    case!(a_foreground_process_ends_if_another_thread_keeps_capabilities, needs Root, Linux),
];

fn threads_of_the_privileged_action_drop_their_privileges() {
    let run = root_to_user().privileged_action([Step::MakeThread]).start();
    assert_dropped(&run, UID, GID, &[GID], (0, 0));
    let pid = run.report().pid;
    for (line, value) in [
        ("Uid", [UID; 4].map(|id| id.to_string()).join("\t")),
        ("Gid", [GID; 4].map(|id| id.to_string()).join("\t")),
        ("Groups", GID.to_string()),
        ("CapPrm", format!("{:016x}", 0)),
        ("CapEff", format!("{:016x}", 0)),
    ] {
        assert_eq!(of_each_thread(pid, line), [value.as_str(); 2], "{line}");
    }
}

/// The daemon has returned to its caller.
fn has_returned(message: &Message) -> bool {
    matches!(message, Message::Daemon(_) | Message::DaemonFailed(_))
}

/// The kernel clears the capabilities of root's threads only, and only as far as their
/// secure bits allow. Any other thread would have to drop them itself.
fn start_fails_if_another_thread_keeps_capabilities() {
    /// CAP_NET_BIND_SERVICE of <linux/capability.h>, which containers have, too.
    const CAP_NET_BIND_SERVICE: u64 = 1 << 10;
    // This thread cannot regain a user id, which the library would notice.
    let with_another_right = as_capable(CAP_NET_BIND_SERVICE, &[]).from_state(|state| {
        state.ids.as_mut().unwrap().uid = [STARTER, UID, UID];
    });
    let as_capable = as_capable(CAP_SETUID | CAP_SETGID, &[]).group(GID);
    let as_root = scenario!().as_root_with_groups().group(GID);
    let as_root = as_root.from_state(|state| state.secure_bits = Some(NO_SETUID_FIXUP));
    let with_another_right = with_another_right.group(STARTERS_GROUP);
    for scenario in [with_another_right, as_capable, as_root] {
        let scenario = scenario.user(UID);
        let with_thread = scenario.clone().privileged_action([Step::MakeThread]);
        let error = with_thread.fail();
        assert_eq!(error.kind, "PrivilegesRetained", "{error}");
        assert!(
            error.text.contains("this thread or another still has"),
            "{error}"
        );
        scenario.start();
    }
    let (scenario, jail) = root_to_user().with_directory("jail");
    for scenario in [scenario.clone(), scenario.chroot(&jail)] {
        let steps = [Step::MakeThreadThatKeepsCapabilities];
        let retained = scenario.clone().privileged_action(steps);
        let error = retained.fail();
        assert_eq!(error.kind, "PrivilegesRetained", "{error}");
        // The same holds under `execute`, where a failed daemon returns to its caller.
        let run = retained.entry(Entry::Execute).launch();
        assert_eq!(run.launcher_error().kind, "PrivilegesRetained");
        run.assert_nothing_left();
        assert!(!run.has_sent(has_returned));
        // A thread that keeps no capabilities does not matter.
        scenario.privileged_action([Step::MakeThread]).start();
    }
}

/// The library does not return to a caller that keeps its privileges, even if nobody can
/// read the error.
fn a_foreground_process_ends_if_another_thread_keeps_capabilities() {
    let scenario = root_to_user()
        .foreground(Foreground::Yes)
        .pid_file("daemon.pid")
        .privileged_action([Step::MakeThreadThatKeepsCapabilities]);
    let run = scenario.launch();
    let text = "the process retained privileges after the change to 4000000001: \
                this thread or another still has capabilities\n";
    run.launcher().assert().code(1).stderr(text);
    let without_error = scenario
        .stderr(Stream::file("/dev/full", Access::Append))
        .launch();
    without_error.launcher().assert().code(1);
    for run in [run, without_error] {
        run.wait_until_all_ended();
        assert!(run.pid_file().is_some_and(|file| !file.locked));
        assert!(!run.has_sent(has_returned));
    }
}
