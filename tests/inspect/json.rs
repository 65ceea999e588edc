//! A reader of JSON that accepts nothing else.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The value of a field.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &Self {
        self.optional(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    pub(crate) fn optional(&self, name: &str) -> Option<&Self> {
        let Self::Object(fields) = self else {
            panic!("no object: {self:?}")
        };
        fields
            .iter()
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("no text: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            other => panic!("no list: {other:?}"),
        }
    }
}

/// Reads one value and nothing after it.
#[track_caller]
pub(crate) fn parse(text: &str) -> Value {
    let mut rest = text.chars().peekable();
    let value = value(&mut rest);
    skip_space(&mut rest);
    assert_eq!(rest.next(), None, "more than a value: {text}");
    value
}

type Rest<'text> = Peekable<Chars<'text>>;

fn skip_space(rest: &mut Rest<'_>) {
    while rest
        .next_if(|next| matches!(next, ' ' | '\n' | '\r' | '\t'))
        .is_some()
    {}
}

fn expect(rest: &mut Rest<'_>, expected: char) {
    skip_space(rest);
    assert_eq!(rest.next(), Some(expected));
}

fn value(rest: &mut Rest<'_>) -> Value {
    skip_space(rest);
    match rest.peek() {
        Some('"') => Value::Text(string(rest)),
        Some('[') => Value::List(items(rest, ['[', ']'], value)),
        Some('{') => Value::Object(items(rest, ['{', '}'], |rest| {
            skip_space(rest);
            let name = string(rest);
            expect(rest, ':');
            (name, value(rest))
        })),
        _ => {
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(|next| next.is_ascii_digit() || *next == '-') {
                digits.push(digit);
            }
            Value::Number(digits.parse().expect("a number"))
        }
    }
}

fn items<T>(
    rest: &mut Rest<'_>,
    [open, close]: [char; 2],
    mut item: impl FnMut(&mut Rest<'_>) -> T,
) -> Vec<T> {
    expect(rest, open);
    let mut items = Vec::new();
    skip_space(rest);
    if rest.next_if_eq(&close).is_some() {
        return items;
    }
    loop {
        items.push(item(rest));
        skip_space(rest);
        match rest.next() {
            Some(',') => {}
            Some(end) if end == close => return items,
            other => panic!("{other:?} in a list"),
        }
    }
}

fn string(rest: &mut Rest<'_>) -> String {
    assert_eq!(rest.next(), Some('"'));
    let mut text = String::new();
    loop {
        match rest.next().expect("the end of a string") {
            '"' => return text,
            '\\' => match rest.next().expect("an escape") {
                'u' => {
                    let digits: String = rest.take(4).collect();
                    let number = u32::from_str_radix(&digits, 16).expect("four digits");
                    text.push(char::from_u32(number).expect("a character"));
                }
                escaped @ ('"' | '\\' | '/') => text.push(escaped),
                other => panic!("an unexpected escape: {other}"),
            },
            control if control.is_ascii_control() => panic!("{control:?} in a string"),
            other => text.push(other),
        }
    }
}
