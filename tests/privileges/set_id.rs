use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use tester::config::{Activation, ExecPid};
use tester::prelude::*;
use tester::report::SignalSet;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(a_set_user_id_root_launcher_becomes_its_real_user, needs Root, Linux, SetIdPrograms),
    case!(a_set_user_id_root_launcher_becomes_another_user, needs Root, Linux, SetIdPrograms),
    case!(a_set_user_id_root_launcher_does_not_trust_its_initial_state, needs Root, Linux, SetIdPrograms),
    case!(a_set_user_id_launcher_locates_no_directory_by_its_environment, needs Root, Linux, SetIdPrograms),
    case!(a_set_user_id_root_launcher_without_options_keeps_its_ids, needs Root, Linux, SetIdPrograms),
    case!(a_set_user_id_root_launcher_hands_no_sockets_over, needs Root, Linux, SetIdPrograms),
    case!(a_set_group_id_root_launcher_becomes_its_real_group, needs Root, Linux, SetIdPrograms),
    case!(a_launcher_that_is_set_user_id_and_set_group_id_becomes_its_real_user, needs Root, Linux, SetIdPrograms),
    case!(a_launcher_that_is_set_id_to_an_ordinary_user_becomes_either_user, needs Root, Linux, SetIdPrograms),
];

/// A tester with this mode and owner, which an ordinary user with these groups starts,
/// and the scenario that keeps its directory.
fn set_id_launcher(mode: u32, owner: (u32, u32), groups: &[u32]) -> (Scenario, Scenario) {
    let directory = copy_of(&tester::tester!(), mode, owner);
    let scenario = Scenario::new(directory.path("program"));
    let scenario = scenario.launched_by(STARTER, STARTERS_GROUP, groups);
    (scenario, directory)
}

const SET_USER_ID: u32 = 0o4755;

fn a_set_user_id_root_launcher_becomes_its_real_user() {
    let (scenario, _directory) = set_id_launcher(SET_USER_ID, (0, 0), &[4711, 4712]);
    let scenario = scenario.user(STARTER).group(STARTERS_GROUP);
    for (groups, expected) in [
        (SupplementaryGroups::FromDatabase, &[STARTERS_GROUP][..]),
        (SupplementaryGroups::Keep, &[4711, 4712]),
        (only([4712]), &[4712]),
        (no_groups(), &[]),
    ] {
        let run = scenario.clone().supplementary_groups(groups).start();
        // If the ids differ, the file system ignores the bit.
        assert_eq!(run.initial().uid, ids([STARTER, 0, 0]));
        assert_dropped(&run, STARTER, STARTERS_GROUP, expected, (0, 0));
    }
}

fn a_set_user_id_root_launcher_becomes_another_user() {
    let (scenario, _directory) = set_id_launcher(SET_USER_ID, (0, 0), &[4711, 4712]);
    let run = scenario.clone().user(UID).group(GID).start();
    assert_dropped(&run, UID, GID, &[GID], (STARTER, STARTERS_GROUP));
    // The daemon has dropped the groups of the user who started the program.
    let run = scenario.user("root").start();
    assert_eq!(run.observe().uid, ids([0; 3]));
    assert_eq!(run.observe().gid, ids([0; 3]));
    assert!(!run.observe().groups.unwrap().contains(&4711));
}

/// The user who calls the program chooses this state.
fn a_set_user_id_root_launcher_does_not_trust_its_initial_state() {
    let (scenario, _directory) = set_id_launcher(SET_USER_ID, (0, 0), &[4711]);
    let path = scenario.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    set_mode(&path, 0o777);
    manager.set_nonblocking(true).unwrap();
    let run = scenario
        .user(STARTER)
        .group(STARTERS_GROUP)
        .env("NOTIFY_SOCKET", &path)
        .close_inherited_fds([])
        .reset_signals()
        .from_state(|state| {
            state.closed = [true; 3];
            state.descriptors = vec![OpenDescriptor::of_root(150, false)];
            state.limit_descriptors = Some(32);
            state.umask = Some(0o777);
            state.dispositions = vec![
                (libc::SIGCHLD, Disposition::Ignore),
                (libc::SIGPIPE, Disposition::Default),
                (libc::SIGTERM, Disposition::Ignore),
            ];
            state.interval_timer = Some(500);
            state.blocked = Blocked::All;
        })
        .start();
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP], (0, 0));
    let daemon = run.observe();
    assert_eq!(daemon.descriptor_numbers(), [0, 1, 2]);
    assert_eq!(daemon.umask, Some(0o027));
    assert_eq!(daemon.blocked_signals, Some(SignalSet::default()));
    // The caller sets the environment: the library does not notify this manager.
    let received = manager.recv(&mut [0; 64]).map_err(|error| error.kind());
    assert_eq!(received, Err(ErrorKind::WouldBlock));
}

/// The caller chooses the variables. A directory of root needs none.
fn a_set_user_id_launcher_locates_no_directory_by_its_environment() {
    let (scenario, _directory) = set_id_launcher(SET_USER_ID, (UID, GID), &[]);
    let places = scenario.create_directory("places");
    set_mode(&places, 0o777);
    let scenario = scenario
        .env("XDG_RUNTIME_DIR", &places)
        .env("XDG_STATE_HOME", &places)
        .env("HOME", &places);
    for (place, variable) in [
        (DirectoryPlace::Runtime("d".into()), "XDG_RUNTIME_DIR"),
        (DirectoryPlace::State("d".into()), "XDG_STATE_HOME"),
        (DirectoryPlace::Logs("d".into()), "XDG_STATE_HOME"),
    ] {
        let directory = Directory::in_place(place);
        let error = scenario.clone().directories([directory]).fail();
        let text = format!(
            "cannot locate directory d: the program has privileges that its caller lacks, so that \
             {variable} is not trusted; use `Directory::at`"
        );
        error.assert_is("LocateDirectory", &text);
    }
    assert_eq!(fs::read_dir(&places).unwrap().count(), 0);
    let path = places.join("d");
    let _run = scenario.directories([Directory::at(&path)]).start();
    assert_eq!(fs::metadata(&path).unwrap().uid(), UID);
}

fn a_set_user_id_root_launcher_without_options_keeps_its_ids() {
    let (scenario, _directory) = set_id_launcher(SET_USER_ID, (0, 0), &[4711, 4712]);
    let run = scenario.start();
    assert_eq!(run.observe().uid, ids([STARTER, 0, 0]));
    let groups = groups_as_listed(STARTERS_GROUP, &[4711, 4712]);
    assert_eq!(run.observe().groups, Some(groups));
}

const SET_GROUP_ID: u32 = 0o2755;

/// The user who calls the program controls its environment.
fn a_set_user_id_root_launcher_hands_no_sockets_over() {
    let (scenario, _directory) = set_id_launcher(SET_USER_ID, (0, 0), &[]);
    let scenario = scenario.socket_activation().close_inherited_fds([]);
    let run = scenario
        .from_state(|state| {
            state.activation = Some(Activation {
                process: ExecPid::Own,
                sockets: vec!["http".to_owned()],
            });
        })
        .start();
    assert_eq!(run.initial().uid, ids([STARTER, 0, 0]));
    assert_eq!(run.report().environment, run.initial().environment);
    assert!(run.initial().descriptor(3).is_some());
    assert!(run.report().descriptor(3).is_none());
}

fn a_set_group_id_root_launcher_becomes_its_real_group() {
    let (scenario, _directory) = set_id_launcher(SET_GROUP_ID, (0, 0), &[]);
    for scenario in [
        scenario.clone().group(STARTERS_GROUP),
        scenario.user(STARTER).group(STARTERS_GROUP),
    ] {
        let run = scenario.start();
        assert_eq!(run.initial().gid, ids([STARTERS_GROUP, 0, 0]));
        assert_dropped(&run, STARTER, STARTERS_GROUP, &[], (0, 0));
    }
    // The process may not set groups, but may keep those that it has.
    let (scenario, _directory) = set_id_launcher(SET_GROUP_ID, (0, 0), &[4711]);
    let scenario = scenario.group(STARTERS_GROUP);
    assert_groups_refused(&scenario);
    let run = scenario.supplementary_groups(SupplementaryGroups::Keep);
    assert_dropped(&run.start(), STARTER, STARTERS_GROUP, &[4711], (0, 0));
}

fn a_launcher_that_is_set_user_id_and_set_group_id_becomes_its_real_user() {
    let (scenario, _directory) = set_id_launcher(SET_BOTH, (0, 0), &[4711]);
    let run = scenario.user(STARTER).group(STARTERS_GROUP).start();
    assert_eq!(run.initial().uid, ids([STARTER, 0, 0]));
    assert_eq!(run.initial().gid, ids([STARTERS_GROUP, 0, 0]));
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[STARTERS_GROUP], (0, 0));
}

fn a_launcher_that_is_set_id_to_an_ordinary_user_becomes_either_user() {
    let (scenario, _directory) = set_id_launcher(SET_BOTH, (UID, GID), &[]);
    let run = scenario.clone().user(STARTER).group(STARTERS_GROUP).start();
    assert_eq!(run.initial().uid, ids([STARTER, UID, UID]));
    assert_dropped(&run, STARTER, STARTERS_GROUP, &[], (UID, GID));
    let run = scenario.clone().user(UID).group(GID).start();
    assert_dropped(&run, UID, GID, &[], (STARTER, STARTERS_GROUP));
    let run = scenario.group(STARTERS_GROUP).start();
    assert_eq!(run.observe().uid, ids([STARTER, UID, UID]));
    assert_eq!(run.observe().gid, ids([STARTERS_GROUP; 3]));
}
