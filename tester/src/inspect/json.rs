//! The check-up as one JSON object.

use std::fmt::Write as _;

use super::{Checkup, Mark, names};
use crate::sys;

pub(super) fn text(checkup: &Checkup) -> String {
    let rows = checkup.rows.iter().map(|(check, verdict)| {
        let number = verdict.number.map(|number| ("number", number.to_string()));
        let fields = [("check", string(check.name))]
            .into_iter()
            .chain(number)
            .chain([
                ("asked_by", string(check.asked_by)),
                ("mark", string(verdict.mark.name())),
                ("seen", string(&verdict.seen)),
                ("reason", string(&verdict.reason)),
            ]);
        format!("\n    {}", object(fields))
    });
    let rows: Vec<_> = rows.collect();
    let whole = object([
        ("pid", checkup.process.pid.to_string()),
        (
            "name",
            string(&names::shown(checkup.process.name.as_bytes())),
        ),
        ("platform", string(std::env::consts::OS)),
        ("inspected_by", sys::effective_user().to_string()),
        ("findings", checkup.count(Mark::Finding).to_string()),
        ("unknown", checkup.count(Mark::Unknown).to_string()),
        ("checks", format!("[{}\n]", rows.join(","))),
    ]);
    format!("{whole}\n")
}

/// An object with these values, which are JSON.
fn object(fields: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let fields = fields
        .into_iter()
        .map(|(name, value)| format!("{}: {value}", string(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
}

fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn a_string_is_quoted() {
        assert_eq!(string("a\"\\\n\u{e9}"), "\"a\\\"\\\\\\u000a\u{e9}\"");
    }
}
