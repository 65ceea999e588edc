//! The time limits of the tests, and the factor that adapts them to a slow machine.

use std::sync::OnceLock;
use std::time::Duration;

/// The environment variable with the factor of every time limit: a positive number, and 1 unless it
/// is set. An emulated machine, or a program with instrumentation, needs more.
pub const SLOWNESS: &str = "TESTER_SLOWNESS";

/// The greatest factor. With it, a case may wait for five hours.
const MOST: f64 = 1000.0;

/// How long a test waits for an event that should come at once, before it fails.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// How long a test waits for an event before it fails.
pub fn time_limit() -> Duration {
    scaled(TIME_LIMIT)
}

/// A time limit for an action of a process, adapted to the machine that runs the test.
///
/// # Panics
///
/// If the environment variable has an invalid value: see [`check`].
pub fn scaled(time: Duration) -> Duration {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    let factor = *FACTOR.get_or_init(|| factor().unwrap_or_else(|text| panic!("{text}")));
    time.mul_f64(factor)
}

/// Checks the environment variable.
///
/// # Errors
///
/// A text for the caller of the test.
pub fn check() -> Result<(), String> {
    factor().map(drop)
}

fn factor() -> Result<f64, String> {
    let Some(text) = std::env::var_os(SLOWNESS) else {
        return Ok(1.0);
    };
    let factor = text.to_str().and_then(parse);
    factor.ok_or_else(|| {
        format!(
            "{SLOWNESS} is {text:?}: set it to a positive number of at most {MOST}, or unset it"
        )
    })
}

fn parse(text: &str) -> Option<f64> {
    let factor: f64 = text.parse().ok()?;
    (factor > 0.0 && factor <= MOST).then_some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_a_positive_number() {
        for (text, factor) in [("1", 1.0), ("10", 10.0), ("2.5", 2.5), ("1000", 1000.0)] {
            assert_eq!(parse(text), Some(factor), "{text}");
        }
        for text in [
            "", " ", "0", "-1", "-0.5", "1001", "inf", "NaN", "ten", "2,5", "3x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_factor_of_one_changes_no_time() {
        for time in [1, 100, 300, 1200, 20_000].map(Duration::from_millis) {
            assert_eq!(time.mul_f64(1.0), time);
        }
    }
}
