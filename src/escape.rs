//! Texts of unknown origin: a terminal that displays them must not obey them.

/// Puts a text on one line. Tabs may align columns, so that a caller may keep them.
pub(crate) fn on_one_line(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if controls_terminal(character) && !kept.contains(&character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
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
