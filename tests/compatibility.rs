//! What was written for 0.7.0 compiles, and the values behave as they did.
//!
//! All that is below the table of contents also compiles with 0.7.0.

use std::ffi::OsString;
use std::fmt::{Debug, Display};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use daemonize2::{Child, Daemonize, Error, ErrorKind, Group, Mask, Outcome, Parent, Stdio, User};
use tester::{case, suite};

fn main() -> ExitCode {
    suite(&[
        case!(every_option_accepts_its_former_arguments),
        case!(generic_parameters_keep_their_order),
        case!(a_number_is_inferred_as_user_group_or_mask),
        case!(a_later_privileged_action_replaces_an_earlier_one),
        case!(a_daemonize_is_named_by_its_result_alone),
        case!(a_generic_caller_needs_no_additional_bounds),
        case!(default_is_the_same_as_new),
        case!(debug_does_not_require_debug_of_the_result),
        case!(the_entry_points_keep_their_signatures),
        case!(an_outcome_can_be_matched_and_queried),
        case!(every_error_kind_exists_with_its_errno),
        case!(types_implement_their_former_traits),
        case!(errors_implement_the_error_trait),
        case!(error_kinds_can_be_compared_and_sorted),
    ])
}

fn dev_null() -> File {
    File::open("/dev/null").unwrap()
}

fn every_option_accepts_its_former_arguments() {
    let path: &Path = "daemon.pid".as_ref();
    let daemonize: Daemonize<u8> = Daemonize::new()
        .pid_file(path)
        .pid_file("daemon.pid")
        .pid_file(String::from("daemon.pid"))
        .pid_file(OsString::from("daemon.pid"))
        .pid_file(PathBuf::from("daemon.pid"))
        .chown_pid_file_user("nobody")
        .chown_pid_file_user(User::from(1))
        .chown_pid_file_group("nogroup")
        .chown_pid_file_group(Group::from(1))
        .working_directory("/")
        .working_directory(path)
        .user("nobody")
        .user(User::from("nobody"))
        .group("nogroup")
        .group(Group::from("nogroup"))
        .umask(0o777)
        .umask(Mask::from(0o022))
        .chroot("/var/empty")
        .chroot(PathBuf::from("/var/empty"))
        .stdout(Stdio::devnull())
        .stdout(dev_null())
        .stderr(Stdio::keep())
        .stderr(OwnedFd::from(dev_null()))
        .privileged_action(|| 7);
    drop(daemonize);
}

fn generic_parameters_keep_their_order() {
    let daemonize = Daemonize::<()>::new()
        .pid_file::<&str>("daemon.pid")
        .chown_pid_file_user::<&str>("nobody")
        .chown_pid_file_group::<u32>(1)
        .working_directory::<String>("/".to_owned())
        .user::<User>("nobody".into())
        .group::<&str>("nogroup")
        .umask::<u32>(0o027)
        .chroot::<PathBuf>("/".into())
        .stdout::<File>(dev_null())
        .stderr::<Stdio>(Stdio::keep());
    let _: Daemonize<String> =
        daemonize.privileged_action::<String, fn() -> String>(|| "result".to_owned());
    let _ = Daemonize::new().privileged_action::<u64, _>(|| 7);
}

fn a_number_is_inferred_as_user_group_or_mask() {
    let _ = Daemonize::new()
        .user(0)
        .group(0)
        .chown_pid_file_user(0)
        .chown_pid_file_group(0)
        .umask(0);
    assert_eq!(User::from(7), User::from(7_u32));
    assert_eq!(Group::from(7), Group::from(7_u32));
    assert_eq!(Mask::from(7), Mask::from(7_u32));
}

fn a_later_privileged_action_replaces_an_earlier_one() {
    let text = String::from("moved into the closure");
    let daemonize: Daemonize<usize> = Daemonize::new()
        .privileged_action(|| panic!("never called"))
        .privileged_action::<(), _>(|| ())
        .user("nobody")
        .privileged_action(move || text.len());
    drop(daemonize);
}

struct Service {
    daemonize: Daemonize<File>,
}

fn a_daemonize_is_named_by_its_result_alone() {
    fn with_defaults(daemonize: Daemonize<File>) -> Daemonize<File> {
        daemonize.umask(0o077).working_directory("/")
    }
    let daemonize = Daemonize::new().privileged_action(dev_null);
    let service = Service {
        daemonize: with_defaults(daemonize),
    };
    let _: Daemonize<()> = service.daemonize.privileged_action(|| ());
}

/// Neither the closure's result nor the one before need be `'static`.
fn a_generic_caller_needs_no_additional_bounds() {
    fn add<T, N, F: FnOnce() -> N + 'static>(daemonize: Daemonize<T>, action: F) -> Daemonize<N> {
        daemonize.user("nobody").privileged_action(action)
    }
    /// # Safety
    ///
    /// That of `start`.
    #[allow(unsafe_code, reason = "named, never called")]
    unsafe fn start<T>(daemonize: Daemonize<T>) -> Result<T, Error> {
        // SAFETY: the caller's.
        unsafe { daemonize.start() }
    }
    let _: unsafe fn(Daemonize<u8>) -> Result<u8, Error> = start;
    let daemonize = add(Daemonize::new(), || "a result without an owner");
    drop(add(daemonize, || 7));
}

fn default_is_the_same_as_new() {
    let debug_text = format!("{:?}", Daemonize::new());
    assert_eq!(format!("{:?}", Daemonize::default()), debug_text);
    let _: Daemonize<()> = Default::default();
}

fn debug_does_not_require_debug_of_the_result() {
    struct Opaque;
    let daemonize = Daemonize::new()
        .pid_file("daemon.pid")
        .user("nobody")
        .privileged_action(|| Opaque);
    let text = format!("{daemonize:?}");
    assert!(text.starts_with("Daemonize {"), "{text}");
    assert!(text.contains("\"daemon.pid\""), "{text}");
    assert!(text.contains("nobody"), "{text}");
}

fn the_entry_points_keep_their_signatures() {
    let _: unsafe fn(Daemonize<u8>) -> Result<u8, Error> = Daemonize::<u8>::start;
    let _: unsafe fn(Daemonize<u8>) -> Outcome<u8> = Daemonize::<u8>::execute;
}

fn an_outcome_can_be_matched_and_queried() {
    fn describe(outcome: Outcome<u8>) -> String {
        match outcome {
            Outcome::Parent(Ok(Parent {
                first_child_exit_status,
                ..
            })) => format!("{first_child_exit_status}"),
            Outcome::Child(Ok(Child {
                privileged_action_result,
                ..
            })) => format!("{privileged_action_result}"),
            Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => match error.kind() {
                ErrorKind::LockPidfile(errno) => format!("locked: {errno}"),
                kind => format!("{kind}"),
            },
        }
    }
    let kind = ErrorKind::LockPidfile(11);
    let parent: Outcome<u8> = Outcome::Parent(Err(kind.into()));
    assert!(parent.is_parent() && !parent.is_child());
    assert_eq!(parent, Outcome::Parent(Err(Error::from(kind))));
    let child: Outcome<u8> = Outcome::Child(Err(kind.into()));
    assert!(child.is_child() && !child.is_parent());
    assert_ne!(child, parent);
    assert_eq!(describe(child), "locked: 11");

    fn succeeded(parent: &Parent) -> bool {
        parent.first_child_exit_status == ExitStatus::from_raw(0)
    }
    let _: fn(&Parent) -> bool = succeeded;
    let _: fn(Child<u8>) -> u8 = |child| child.privileged_action_result;
}

fn every_error_kind_exists_with_its_errno() {
    use ErrorKind::*;
    let with_errno: [fn(i32) -> ErrorKind; 17] = [
        Fork,
        Wait,
        DetachSession,
        SetGroup,
        SetUser,
        ChangeDirectory,
        OpenPidfile,
        GetPidfileFlags,
        SetPidfileFlags,
        LockPidfile,
        ChownPidfile,
        OpenDevnull,
        RedirectStreams,
        CloseDevnull,
        TruncatePidfile,
        WritePid,
        Chroot,
    ];
    for kind in with_errno.map(|kind| kind(libc::ENOENT)) {
        let (debug_text, text) = (format!("{kind:?}"), kind.to_string());
        assert!(debug_text.ends_with("(2)"), "{debug_text}");
        assert!(text.contains("2"), "{text}");
        assert_eq!(Error::from(kind).kind(), kind);
    }
    for kind in [
        GroupNotFound,
        GroupContainsNul,
        UserNotFound,
        UserContainsNul,
        PathContainsNul,
        WritePidUnspecifiedError,
    ] {
        assert_eq!(Error::from(kind).kind(), kind);
        assert!(!kind.to_string().is_empty());
    }
}

fn types_implement_their_former_traits() {
    fn is_value<T: Debug + Clone + Ord>() {}
    fn is_sent_and_shared<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static>() {}
    fn is_debug<T: Debug>() {}
    fn is_eq<T: Debug + Eq>() {}
    fn is_ord<T: Debug + Ord>() {}
    fn is_from<T: for<'a> From<&'a str> + From<u32>>() {}
    is_value::<User>();
    is_value::<Group>();
    is_value::<Mask>();
    is_value::<ErrorKind>();
    is_from::<User>();
    is_from::<Group>();
    is_debug::<Stdio>();
    is_debug::<Daemonize<()>>();
    is_eq::<Parent>();
    is_eq::<Outcome<u8>>();
    is_eq::<Error>();
    is_ord::<Child<u8>>();
    is_sent_and_shared::<Error>();
    is_sent_and_shared::<ErrorKind>();
    is_sent_and_shared::<User>();
    is_sent_and_shared::<Group>();
    is_sent_and_shared::<Mask>();
    is_sent_and_shared::<Stdio>();
    is_sent_and_shared::<Parent>();
    is_sent_and_shared::<Child<u8>>();
    is_sent_and_shared::<Outcome<u8>>();
}

fn errors_implement_the_error_trait() {
    fn is_error<T: std::error::Error + Display + Send + Sync + 'static>(error: T) -> String {
        let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
        boxed.to_string()
    }
    fn fails() -> Result<(), Box<dyn std::error::Error>> {
        Err(Error::from(ErrorKind::UserNotFound))?
    }
    let kind = ErrorKind::ChangeDirectory(libc::ENOENT);
    assert_eq!(is_error(Error::from(kind)), is_error(kind));
    let error = fails().unwrap_err();
    let error = error.downcast_ref::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::UserNotFound);
    assert_eq!(error.clone(), *error);
}

fn error_kinds_can_be_compared_and_sorted() {
    fn is_copy<T: Copy>(value: T) -> (T, T) {
        (value, value)
    }
    let (one, other) = is_copy(ErrorKind::Fork(11));
    assert_eq!(one, other);
    assert_ne!(ErrorKind::Fork(11), ErrorKind::Fork(12));
    // In the order in which they stand.
    let mut kinds = [
        ErrorKind::Chroot(1),
        ErrorKind::UserNotFound,
        ErrorKind::Fork(2),
        ErrorKind::Fork(1),
        ErrorKind::GroupNotFound,
    ];
    kinds.sort();
    assert_eq!(
        kinds,
        [
            ErrorKind::Fork(1),
            ErrorKind::Fork(2),
            ErrorKind::GroupNotFound,
            ErrorKind::UserNotFound,
            ErrorKind::Chroot(1),
        ]
    );
}
