//! The binary under test: see [`tester::subject`] for what it does and for
//! its exit statuses.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        None => tester::subject::run(),
        Some(argument) if argument == tester::subject::FIND_REAPER => {
            tester::subject::find_reaper()
        }
        Some(argument) if argument == tester::subject::TELL_SUPERVISED => {
            tester::subject::tell_supervised()
        }
        Some(argument) if argument == tester::crash::CRASH => {
            let rest = std::env::args_os().skip(2);
            tester::crash::run(rest.map(|argument| argument.to_string_lossy().into_owned()))
        }
        Some(argument) => {
            eprintln!("tester: unknown argument {}", argument.to_string_lossy());
            ExitCode::from(tester::subject::EXIT_BAD_CONFIG)
        }
    }
}
