use tester::prelude::*;
use tester::report::FileType;

pub(crate) const CASES: &[Case] = &[
    case!(nothing_outside_can_be_reached, needs Root),
    case!(nothing_outside_can_be_reached_with_a_pid_file, needs Root),
    case!(no_descriptor_of_the_library_is_a_directory, needs Root),
    case!(proc_shows_a_jailed_daemon_nothing_outside, needs Root, Linux, Mounting),
    case!(proc_shows_a_jailed_user_no_other_process, needs Root, Linux, Mounting),
    case!(a_program_that_a_jailed_daemon_runs_finds_nothing_outside, needs Root, Linux, Mounting),
    case!(a_directory_that_the_caller_has_open_leads_outside_unless_closed, needs Root),
    case!(a_jail_that_is_moved_with_the_daemon_in_it_stays_its_root, needs Root),
    case!(jails_that_are_swapped_repeatedly_confine_the_daemon, needs Root),
];

fn nothing_outside_can_be_reached() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    for working_directory in [scenario.directory(), &inside, Path::new("/")] {
        let scenario = scenario.clone().working_directory(working_directory);
        let run = scenario.chroot(&jail).start();
        assert_eq!(run.try_to_escape(), [Place::of(&jail).unwrap()]);
    }
}

fn nothing_outside_can_be_reached_with_a_pid_file() {
    let (scenario, jail) = daemon!().with_directory("jail");
    let run = scenario.chroot(&jail).start();
    assert_eq!(run.try_to_escape(), [Place::of(&jail).unwrap()]);
}

fn no_descriptor_of_the_library_is_a_directory() {
    let (scenario, jail) = daemon!().with_directory("jail");
    let run = scenario.chroot(&jail).start();
    let (before, daemon) = (run.initial().descriptor_numbers(), run.report());
    let descriptors = daemon.descriptors.unwrap();
    let of_the_library: Vec<_> = descriptors
        .iter()
        .filter(|descriptor| !before.contains(&descriptor.number))
        .map(|descriptor| descriptor.file_type)
        .collect();
    assert_eq!(of_the_library, [FileType::Regular]);
}

/// A daemon in a jail that contains /proc, and the files that `fill` makes.
fn in_jail_with_proc(scenario: &Scenario, fill: fn(&Path), body: impl FnOnce(&Run, Place) + Send) {
    let jail = scenario.create_directory("jail");
    let proc = scenario.create_directory("jail/proc");
    fill(&jail);
    let scenario = scenario.clone().chroot(&jail).pid_file("daemon.pid");
    with_own_mounts(|| {
        mount(&["--rbind", "/proc"], &proc);
        body(&scenario.start(), Place::of(&jail).unwrap());
    });
}

/// Paths from a process to directories. `self` means the process that asks.
fn ways_by(process: &str) -> impl Iterator<Item = Bytes> {
    let ways = ["cwd", "root", "root/..", "task/../root", "task/../cwd/.."];
    let paths = ways.map(|way| format!("/proc/{process}/{way}"));
    paths.into_iter().map(Bytes::from)
}

fn proc_shows_a_jailed_daemon_nothing_outside() {
    in_jail_with_proc(
        &scenario!(),
        |_| {},
        |run, jail| {
            let descriptors = run.report().descriptor_numbers().into_iter();
            let through_descriptors = descriptors.flat_map(|number| {
                let path = format!("/proc/self/fd/{number}");
                [Bytes::from(format!("{path}/..")), Bytes::from(path)]
            });
            let paths: Vec<_> = ways_by("self")
                .chain(ways_by("thread-self"))
                .chain(through_descriptors)
                .collect();
            let reached = run.try_to_escape_through(paths);
            assert!(reached.len() >= 4, "{reached:?}");
            assert!(reached.iter().all(|place| *place == jail), "{reached:?}");
            // /proc shows other processes to root, whom a jail does not confine.
            let paths = ways_by(&std::process::id().to_string()).collect();
            let top = Place::of(Path::new("/")).unwrap();
            assert!(run.try_to_escape_through(paths).contains(&top));
        },
    );
}

fn proc_shows_a_jailed_user_no_other_process() {
    /// An id that no other test uses.
    const ALONE: u32 = 4_000_000_077;
    let scenario = scenario!().user(ALONE).group(ALONE);
    in_jail_with_proc(
        &scenario,
        |_| {},
        |run, jail| {
            let processes = fs::read_dir("/proc").unwrap().map(|entry| {
                let name = entry.unwrap().file_name();
                name.to_string_lossy().into_owned()
            });
            let processes: Vec<_> = processes
                .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
                .collect();
            assert!(processes.len() > 1);
            let paths = processes.iter().flat_map(|pid| ways_by(pid)).collect();
            let reached = run.try_to_escape_through(paths);
            assert!(!reached.is_empty());
            assert!(reached.iter().all(|place| *place == jail), "{reached:?}");
        },
    );
}

fn put_shell_into(jail: &Path) {
    let libraries = Command::new("ldd").arg("/bin/sh").output().unwrap().stdout;
    let libraries = String::from_utf8(libraries).unwrap();
    let libraries = libraries
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    let install = |arguments: &[&str], file: &str| {
        let copy = jail.join(file.trim_start_matches('/'));
        let mut install = Command::new("install");
        let status = install.args(arguments).arg(copy).status().unwrap();
        assert!(status.success());
    };
    for file in libraries.chain(["/bin/sh"]) {
        install(&["-D", "-m", "755", file], file);
    }
    // The standard library opens /dev/null as standard input of a program. Its content
    // does not matter.
    install(&["-D", "-m", "644", "/dev/null"], "/dev/null");
}

/// A shell enters each directory that it can reach, and climbs from there.
fn a_program_that_a_jailed_daemon_runs_finds_nothing_outside() {
    const CLIMB: &str = "for way in / . .. /proc/self/cwd /proc/self/cwd/.. /proc/self/root \
        /proc/self/root/.. /proc/thread-self/cwd /proc/thread-self/root /proc/self/fd/*; do
        (cd $way && cd ../../../../../../../../../../../.. && echo *)
        done";
    const WAYS: usize = 9;

    for is_user in [false, true] {
        let climb = ["/bin/sh", "-c", CLIMB].map(Bytes::from).to_vec();
        let mut scenario = scenario!().initialize([Step::Run(climb)]);
        if is_user {
            scenario = scenario.user(UID).group(UID);
        }
        let jail = scenario.path("jail");
        in_jail_with_proc(&scenario, put_shell_into, |run, _| {
            let entries = fs::read_dir(&jail).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort_unstable();
            let names = names.join(" ");
            let found = run.result().concat();
            let found: Vec<_> = found.lines().collect();
            assert_eq!(found.len(), WAYS, "{found:?}");
            assert!(found.iter().all(|there| *there == names), "{found:?}");
        });
    }
}

/// The documentation states this limit: the library closes the caller's descriptors only
/// if it is asked to.
fn a_directory_that_the_caller_has_open_leads_outside_unless_closed() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let outside = scenario.create_directory("outside");
    let scenario = scenario.from_state(|state| {
        state.descriptors = vec![OpenDescriptor {
            number: 20,
            path: (&outside).into(),
            close_on_exec: true,
        }];
    });
    let scenario = scenario.chroot(&jail);
    let (jail, top) = (
        Place::of(&jail).unwrap(),
        Place::of(Path::new("/")).unwrap(),
    );
    assert_eq!(scenario.start().try_to_escape(), [jail.clone(), top]);
    let run = scenario.close_inherited_fds([]).start();
    assert_eq!(run.try_to_escape(), [jail]);
}

/// A directory that is renamed stays the same directory.
fn a_jail_that_is_moved_with_the_daemon_in_it_stays_its_root() {
    let (scenario, jail) = scenario!().with_directory("jail");
    let inside = scenario.create_directory("jail/inside");
    let moved = scenario.path("moved");
    let run = scenario
        .working_directory(&inside)
        .chroot("..")
        .privileged_action([Step::Hold])
        .launch();
    run.held();
    fs::rename(&jail, &moved).unwrap();
    run.proceed();
    let daemon = run.report();
    assert_eq!(daemon.root, Some(Place::of(&moved).unwrap()));
    let inside = Place::of(&moved.join("inside")).unwrap();
    assert_eq!(daemon.working_directory, Some(inside));
    assert_eq!(run.try_to_escape(), [Place::of(&moved).unwrap()]);
}

fn jails_that_are_swapped_repeatedly_confine_the_daemon() {
    let (scenario, jail) = scenario!().with_directory("jail");
    scenario.create_directory("jail/inside");
    let other = scenario.create_directory("other");
    scenario.create_directory("other/inside");
    let jails = [Place::of(&jail).unwrap(), Place::of(&other).unwrap()];
    let third = scenario.path("third");
    let swap = || {
        for (from, to) in [(&jail, &third), (&other, &jail), (&third, &other)] {
            fs::rename(from, to).unwrap();
        }
    };
    while_repeating(swap, || {
        let scenario = scenario.clone().working_directory("jail/inside");
        let scenario = scenario.chroot(&jail);
        let mut started = 0;
        for _ in 0..60 {
            let run = scenario.launch();
            if !run.launcher().output.status.success() {
                let error = run.launcher_error();
                assert_eq!(error.errno, Some(libc::ENOENT), "{error}");
                let kinds = ["ChangeDirectory", "Chroot"];
                assert!(kinds.contains(&error.kind_name()), "{error}");
                continue;
            }
            started += 1;
            let root = run.report().root.unwrap();
            assert!(jails.contains(&root), "{root:?}");
            assert_eq!(run.try_to_escape(), [root]);
        }
        assert_ne!(started, 0);
    });
}
