//! The binary under test: [`tester::subject`] describes its behaviour and its exit statuses.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tester::sys::CountingAllocator = tester::sys::CountingAllocator;

fn main() -> ExitCode {
    // The daemon reports the signals that it ignores.
    if std::env::args().nth(1).as_deref() == Some(tester::subject::SPAWNED) {
        let mut arguments = arguments();
        let steps = arguments.next().unwrap_or_default();
        return tester::subject::run_spawned(&steps, arguments.next().as_deref());
    }
    // nohup(1) and the background jobs of a shell ignore signals. Only the case decides about that.
    if let Err(error) = tester::sys::stop_ignoring_signals() {
        eprintln!("tester: cannot stop ignoring signals: {error}");
        return ExitCode::from(tester::subject::EXIT_BAD_STATE);
    }
    // This comes before any fork.
    let token = std::env::var(tester::control::TOKEN).ok();
    if let Some(Err(error)) = token.as_deref().map(tester::observe::enroll) {
        eprintln!("tester: cannot join its case: {error}");
        return ExitCode::from(tester::subject::EXIT_BAD_STATE);
    }
    match std::env::args_os().nth(1) {
        None => tester::subject::run(),
        Some(argument) if argument == tester::subject::FIND_REAPER => {
            tester::subject::find_reaper()
        }
        Some(argument) if argument == tester::subject::CONTROL_DAEMON => {
            tester::subject::control_daemon(arguments())
        }
        Some(argument) if argument == tester::subject::PRINT_SUPERVISED => {
            tester::subject::print_supervised()
        }
        Some(argument) if argument == tester::subject::START_AS_FIRST_PROCESS => {
            tester::subject::start_as_first_process(arguments().next())
        }
        Some(argument) if argument == tester::subject::START_WITH_FULL_OUTPUT => {
            tester::subject::start_with_full_output()
        }
        // For ci/test.sh: whether the library lists descriptors, as on old kernels.
        Some(argument) if argument == "lists-descriptors" => {
            ExitCode::from(u8::from(!cfg!(daemonize2_without_close_range)))
        }
        Some(argument) if argument == tester::contest::CONTEND => tester::contest::contend(),
        Some(argument) if argument == tester::contest::MEDDLE => tester::contest::meddle(),
        Some(argument) if argument == tester::inspect::INSPECT => {
            tester::inspect::run(std::env::args_os().skip(2))
        }
        Some(argument) if argument == tester::trace::TRACE => tester::trace::run(arguments()),
        Some(argument) => {
            eprintln!("tester: unknown argument {}", argument.to_string_lossy());
            ExitCode::from(tester::subject::EXIT_BAD_CONFIG)
        }
    }
}

/// The arguments after the first.
fn arguments() -> impl Iterator<Item = String> {
    let rest = std::env::args_os().skip(2);
    rest.map(|argument| argument.to_string_lossy().into_owned())
}
