//! The check-up as a table: a line for each check.

use std::fmt::Write as _;

use super::{Checkup, Mark, names};

pub(super) fn text(checkup: &Checkup) -> String {
    let titles: Vec<_> = checkup
        .rows
        .iter()
        .map(|(check, verdict)| match verdict.number {
            Some(number) => format!("{} {number}", check.name),
            None => check.name.to_owned(),
        })
        .collect();
    let width = titles.iter().map(String::len).max().unwrap_or_default();
    let mut text = String::new();
    for (title, (_, verdict)) in titles.iter().zip(&checkup.rows) {
        let mark = match verdict.mark {
            Mark::Finding => "FINDING",
            other => other.name(),
        };
        let _ = writeln!(
            text,
            "{mark:7}  {title:width$}  {}: {}",
            verdict.seen, verdict.reason
        );
    }
    let _ = writeln!(
        text,
        "{}: {}, {} unknown",
        names::process(&checkup.process),
        match checkup.count(Mark::Finding) {
            1 => "1 finding".to_owned(),
            number => format!("{number} findings"),
        },
        checkup.count(Mark::Unknown)
    );
    text
}
