//! Numbers as the writers of events have them: whole, with a fraction, in quotes.

use crate::alert::{Kind, Node};

/// Digits of the longest number in quotes.
const DIGITS_MAX: usize = 18;

/// A number, cut towards zero and held to 32 bits; `None` for anything else, booleans too.
pub fn whole(node: Node<'_>) -> Option<i32> {
    match node.kind() {
        Kind::Number => read(node.number()?),
        Kind::String => in_quotes(node.as_str()?),
        _ => None,
    }
}

/// A whole number that fits 64 bits and does not stand in quotes.
pub fn integer(node: Node<'_>) -> Option<i64> {
    node.number()?.parse().ok()
}

/// As [`whole`], of text.
pub fn in_quotes(text: &str) -> Option<i32> {
    let text = super::event::trimmed(text);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    // `inf`, `nan` and what else a float may be called are no numbers of JSON.
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if (1..=DIGITS_MAX).contains(&digits) && plain { read(text) } else { None }
}

fn read(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32);
    }
    // A cast of a double saturates, and cuts towards zero.
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as i32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;
    use crate::alert::Parser;

    #[test]
    fn numbers_are_read_as_they_are_meant() {
        for (json, expected) in [
            ("65", Some(65)),
            ("-5", Some(-5)),
            ("65.9", Some(65)),
            ("-65.9", Some(-65)),
            ("1e2", Some(100)),
            ("1e400", None),
            ("99999999999999999999999", Some(i32::MAX)),
            ("-99999999999999999999999", Some(i32::MIN)),
            ("1000000000000000", Some(i32::MAX)),
            ("\"65\"", Some(65)),
            ("\" 65 \"", Some(65)),
            ("\"65.9\"", Some(65)),
            ("\"999999999999999999\"", Some(i32::MAX)),
            ("\"9999999999999999999\"", None),
            ("\"inf\"", None),
            ("\"\"", None),
            ("\"-\"", None),
            ("\"0x10\"", None),
            ("true", None),
            ("null", None),
            ("[1]", None),
        ] {
            let mut parser = Parser::new();
            assert_eq!(whole(parser.alert(json.as_bytes()).root().unwrap()), expected, "{json}");
        }
    }
}
