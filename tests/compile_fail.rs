//! The compiler refuses misuse that it can see, with a helpful message.
//!
//! `ci/test.sh` runs this suite as the user that built it: another user may not be able
//! to reach the compiler.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;
use std::{env, fs};

use tester::{case, suite};

fn main() -> ExitCode {
    suite(&[
        case!(a_closure_in_the_wrong_order_gets_a_helpful_error, needs Compiler),
        case!(an_unused_result_is_a_warning, needs Compiler),
        case!(a_correct_program_compiles_without_diagnostics, needs Compiler),
    ])
}

/// The compiler's messages for a function with this body. Only the function is compiled:
/// the library beside this test is the one that cargo has just built.
fn diagnose(body: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("compile_fail.rs");
    let text = format!(
        "#![allow(unused_imports)]\nuse daemonize2::*;\npub fn function() {{\n{body}\n}}\n"
    );
    fs::write(&source, text).unwrap();
    let dependencies = dependencies();
    let output = Command::new(suite::compiler().unwrap())
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata"])
        .arg("--out-dir")
        .arg(directory.path())
        .arg("-L")
        .arg(&dependencies)
        .arg("--extern")
        .arg(format!("daemonize2={}", library(&dependencies).display()))
        .arg(&source)
        .output()
        .unwrap();
    // The compiler wraps no lines here, and colours only the output of a terminal.
    String::from_utf8(output.stderr).unwrap()
}

fn dependencies() -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The newest library, if a former build has left others.
fn library(dependencies: &Path) -> PathBuf {
    let built_at = |path: &PathBuf| -> SystemTime {
        fs::metadata(path).and_then(|file| file.modified()).unwrap()
    };
    fs::read_dir(dependencies)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libdaemonize2-") && name.ends_with(".rlib")
        })
        .max_by_key(built_at)
        .expect("the library beside this test")
}

#[track_caller]
fn assert_says(body: &str, sentence: &str) {
    let said = diagnose(body);
    assert!(said.contains(sentence), "{body}\n{said}");
}

fn a_closure_in_the_wrong_order_gets_a_helpful_error() {
    const INITIALIZE: &str = "let _ = Daemonize::new().initialize(|()| Ok::<_, String>(()))";
    const DEFER: &str = "let _ = Daemonize::new().deferred_readiness()";
    const PAYLOAD: &str = "let _ = Daemonize::new().ready_payload(|()| String::new())";
    let action =
        "a privileged action must precede `initialize`, `ready_payload` and `deferred_readiness`";
    for first in [INITIALIZE, PAYLOAD, DEFER] {
        assert_says(&format!("{first}.privileged_action(|| ());"), action);
        assert_says(
            &format!("{first}.umask(0).try_privileged_action(|| Ok::<_, String>(()));"),
            action,
        );
    }
    let initialize = "`initialize` must precede `deferred_readiness` or `ready_payload`";
    let payload = "with `deferred_readiness`, give the payload to `Readiness::ready_with`";
    for first in [PAYLOAD, DEFER] {
        for next in [
            "initialize(|_| Ok::<_, String>(()))",
            "deferred_readiness()",
            "ready_payload(|_| String::new())",
            "start_checked_with(|_| Ok::<_, String>(()))",
            "execute_checked_with(|_| Ok::<_, String>(()))",
        ] {
            assert_says(&format!("{first}.{next};"), initialize);
            assert_says(&format!("{first}.{next};"), payload);
        }
    }
}

fn an_unused_result_is_a_warning() {
    for lost in [
        "Daemonize::new();",
        "Daemonize::new().execute_checked();",
        "PidFileGuard::take();",
        "if let Ok(((), readiness)) = Daemonize::new().deferred_readiness().start_checked() \
            { std::convert::identity::<Readiness>(readiness); }",
    ] {
        assert_says(lost, "warning: unused");
        assert_says(lost, "must be used");
    }
}

fn a_correct_program_compiles_without_diagnostics() {
    let said = diagnose(
        "let _ = Daemonize::new().privileged_action(|| 1)\
            .initialize(|one| Ok::<_, String>(one)).deferred_readiness().umask(0);
        let text = String::new();
        let length: Result<usize, Error> =
            Daemonize::new().start_checked_with(|()| Ok::<_, String>(text.len()));
        let _ = (text, length, Daemonize::new().on_started(|_| ()).ready_payload(|()| [0]));",
    );
    assert_eq!(said, "");
}
