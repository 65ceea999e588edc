//! Texts of unknown origin: a terminal that displays them must not obey them.

use std::fmt::{self, Display, Write as _};
use std::mem;

/// Displays a text on one line.
pub(crate) struct OnOneLine<'a>(pub(crate) &'a str);

/// Displays a text on one line and keeps its tabs, which may align columns.
pub(crate) struct WithTabs<'a>(pub(crate) &'a str);

impl Display for OnOneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| {
            if controls_terminal(character) {
                write!(formatter, "{}", character.escape_default())
            } else {
                formatter.write_char(character)
            }
        })
    }
}

impl Display for WithTabs<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        self.0.split('\t').try_for_each(|text| {
            write!(
                formatter,
                "{}{}",
                mem::replace(&mut separator, "\t"),
                OnOneLine(text)
            )
        })
    }
}

/// Whether a character controls the terminal: a control character, a line or paragraph
/// separator of Unicode, or a character with Unicode's property Bidi_Control, which changes the
/// order in which a text is displayed.
fn controls_terminal(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}
