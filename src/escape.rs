//! Texts of unknown origin: a terminal that displays them must not obey them.

use std::fmt::{self, Display};

/// Displays a text on one line.
pub(crate) struct OnOneLine<'a>(pub(crate) &'a str);

impl Display for OnOneLine<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(formatter, self.0, controls_terminal)
    }
}

/// Displays a text on one line and keeps its tabs, which may align columns.
pub(crate) struct WithTabs<'a>(pub(crate) &'a str);

impl Display for WithTabs<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(formatter, self.0, |character| {
            character != '\t' && controls_terminal(character)
        })
    }
}

fn write_escaped(
    out: &mut impl fmt::Write,
    text: &str,
    is_escaped: impl Fn(char) -> bool,
) -> fmt::Result {
    for character in text.chars() {
        if is_escaped(character) {
            write!(out, "{}", character.escape_default())?;
        } else {
            out.write_char(character)?;
        }
    }
    Ok(())
}

/// Whether a character controls the terminal: a control character, a line or paragraph
/// separator of Unicode, or a character with Unicode's property Bidi_Control, which
/// changes the order in which a text is displayed.
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
