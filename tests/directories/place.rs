use tester::prelude::*;

use crate::setup::*;

pub(crate) const CASES: &[Case] = &[
    case!(the_directories_of_root_are_those_of_the_system, needs Root, Linux, Mounting),
    case!(a_missing_directory_of_the_system_is_created, needs Root, Linux, Mounting),
    case!(the_directories_of_an_ordinary_user_are_those_of_the_environment),
    case!(the_home_directory_has_the_state_of_an_ordinary_user),
    case!(the_umask_has_no_influence_on_parents),
    case!(a_missing_runtime_directory_of_an_ordinary_user_is_reported),
    case!(a_relative_runtime_directory_of_an_ordinary_user_is_reported),
    case!(an_invalid_name_is_reported),
    case!(a_relative_path_is_reported),
];

fn runtime(name: &str) -> Directory {
    Directory::in_place(DirectoryPlace::Runtime(name.into()))
}

fn state(name: &str) -> Directory {
    Directory::in_place(DirectoryPlace::State(name.into()))
}

fn logs(name: &str) -> Directory {
    Directory::in_place(DirectoryPlace::Logs(name.into()))
}

#[track_caller]
fn assert_path(directory: &daemonize2::Directory, path: &str) {
    assert_eq!(directory.path().unwrap(), Path::new(path));
}

/// File systems in memory cover those of the machine.
/// A start by a copy of the tester, which may itself be in a directory that the test hides. The
/// other value has the copy.
fn of_copy() -> (Scenario, Scenario) {
    let owner = scenario!();
    let copy = owner.path("tester");
    let mut command = Command::new("cp");
    command.arg(tester::tester!()).arg(&copy);
    assert!(command.status().unwrap().success());
    (Scenario::new(copy), owner)
}

fn the_directories_of_root_are_those_of_the_system() {
    let (scenario, _copy) = of_copy();
    let scenario = scenario
        .user(UID)
        .group(GID)
        .directories([
            runtime("clockd"),
            state("clockd/data/x"),
            logs("clockd").mode(0o750),
        ])
        .pid_file("/run/clockd/daemon.pid");
    with_own_mounts(|| {
        for place in ["/run", "/var/lib", "/var/log"] {
            mount(
                &["-t", "tmpfs", "-o", "mode=755", "tester"],
                Path::new(place),
            );
        }
        let run = scenario.start();
        run.assert_pid_file_held();
        let daemon = (UID, GID);
        assert_directory(Path::new("/run/clockd"), daemon, 0o755);
        assert_directory(Path::new("/var/lib/clockd/data/x"), daemon, 0o755);
        assert_directory(Path::new("/var/log/clockd"), daemon, 0o750);
        for parent in ["/var/lib/clockd/data", "/var/lib/clockd"] {
            assert_directory(Path::new(parent), (0, 0), 0o755);
        }
        assert_path(&daemonize2::Directory::runtime("clockd"), "/run/clockd");
        assert_path(&daemonize2::Directory::state("clockd"), "/var/lib/clockd");
        assert_path(&daemonize2::Directory::logs("clockd"), "/var/log/clockd");
    });
}

fn a_missing_directory_of_the_system_is_created() {
    let (scenario, _copy) = of_copy();
    let scenario = scenario.directories([state("clockd")]);
    with_own_mounts(|| {
        mount(
            &["-t", "tmpfs", "-o", "mode=755", "tester"],
            Path::new("/var"),
        );
        let _run = scenario.start();
        assert_directory(Path::new("/var/lib"), (0, 0), 0o755);
        assert_directory(Path::new("/var/lib/clockd"), (0, 0), 0o755);
    });
}

/// A start by an ordinary user with a runtime directory, and the ids of the user.
fn with_places(scenario: Scenario) -> (Scenario, (u32, u32)) {
    let ids = match sys::effective_user() {
        0 => (UID, GID),
        _ => own_ids(),
    };
    // A process that has changed its ids trusts its environment only on Linux.
    let scenario = match sys::effective_user() {
        0 => {
            chown(scenario.directory(), Some(UID), Some(GID)).unwrap();
            scenario.launched_by(UID, GID, &[])
        }
        _ => scenario,
    };
    create(&scenario.path("runtime"), ids, 0o700);
    let runtime = scenario.path("runtime");
    let state = scenario.path("home/state");
    let scenario = scenario.env("XDG_RUNTIME_DIR", runtime);
    (scenario.env("XDG_STATE_HOME", state), ids)
}

fn the_directories_of_an_ordinary_user_are_those_of_the_environment() {
    let (scenario, ids) = with_places(scenario!());
    let scenario = scenario
        .directories([
            runtime("clockd").mode(0o755),
            state("clockd/data"),
            logs("clockd"),
        ])
        .pid_file("runtime/clockd/daemon.pid");
    // The second start finds them.
    for _ in 0..2 {
        let run = scenario.start();
        run.assert_pid_file_held();
        let path = |name: &str| scenario.path(name);
        assert_directory(&path("runtime/clockd"), ids, 0o755);
        assert_directory(&path("home/state/clockd/data"), ids, 0o700);
        assert_directory(&path("home/state/log/clockd"), ids, 0o700);
        // The parent in the name, and the base directories.
        assert_directory(&path("home/state/clockd"), ids, 0o755);
        for base in ["home", "home/state", "home/state/log"] {
            assert_directory(&path(base), ids, 0o700);
        }
    }
}

fn the_home_directory_has_the_state_of_an_ordinary_user() {
    for state_home in ["", "relative"] {
        let (scenario, ids) = with_places(scenario!());
        let home = scenario.path("");
        let scenario = scenario
            .env("XDG_STATE_HOME", state_home)
            .env("HOME", home)
            .directories([state("clockd"), logs("clockd")]);
        let _run = scenario.start();
        for name in [".local", ".local/state", ".local/state/clockd"] {
            assert_directory(&scenario.path(name), ids, 0o700);
        }
        assert_directory(&scenario.path(".local/state/log/clockd"), ids, 0o700);
    }
}

fn the_umask_has_no_influence_on_parents() {
    for umask in [0, 0o077, 0o777] {
        let (scenario, ids) = with_places(scenario!());
        let scenario = scenario
            .directories([state("clockd/data")])
            .from_state(|state| state.umask = Some(umask));
        let _run = scenario.start();
        assert_directory(&scenario.path("home/state/clockd"), ids, 0o755);
        assert_directory(&scenario.path("home"), ids, 0o700);
        assert_directory(&scenario.path("home/state/clockd/data"), ids, 0o700);
    }
}

/// The system creates it at a login, and removes it at the logout.
fn a_missing_runtime_directory_of_an_ordinary_user_is_reported() {
    let (scenario, _) = with_places(scenario!());
    let scenario = scenario.directories([runtime("clockd")]);
    let error = scenario.clone().env("XDG_RUNTIME_DIR", "").fail();
    let text = "cannot locate directory clockd: XDG_RUNTIME_DIR is not set; the system sets it at \
                a login, but not for services and cron(8): use `Directory::at` or \
                `Directory::state` there";
    assert_eq!(error.kind, "LocateDirectory");
    assert_eq!((error.text.as_str(), error.errno), (text, None));
    let missing = scenario.path("missing");
    let scenario = scenario.env("XDG_RUNTIME_DIR", &missing);
    let reason = format!(
        ": its parent directory {} does not exist",
        missing.display()
    );
    assert_not_created(&scenario, &missing.join("clockd"), libc::ENOENT, &reason);
}

fn a_relative_runtime_directory_of_an_ordinary_user_is_reported() {
    let (scenario, _) = with_places(scenario!());
    let scenario = scenario.directories([runtime("clockd")]);
    let error = scenario.env("XDG_RUNTIME_DIR", "runtime").fail();
    let text = "cannot locate directory clockd: XDG_RUNTIME_DIR is runtime, which is not an \
                absolute path";
    error.assert_is("LocateDirectory", text);
}

fn an_invalid_name_is_reported() {
    for name in ["", ".", "..", "/clockd", "../clockd", "clockd/../../x"] {
        let shown = if name.is_empty() { r#""""# } else { name };
        for directory in [runtime(name), state(name), logs(name)] {
            let error = scenario!().directories([directory]).fail();
            let text = format!(
                "cannot locate directory {shown}: the name must be relative, and have no empty, \
                 `.` or `..` component; with an absolute path, use `Directory::at`"
            );
            error.assert_is("LocateDirectory", &text);
            assert_eq!(error.path, Some(name.into()));
        }
    }
}

fn a_relative_path_is_reported() {
    let error = scenario!().directories([Directory::at("clockd")]).fail();
    let text = "cannot locate directory clockd: it is not an absolute path; with a name, use \
                `Directory::runtime`, `Directory::state` or `Directory::logs`";
    error.assert_is("LocateDirectory", text);
}
