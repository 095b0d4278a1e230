//! What stands at the top level of a rule file: includes and the names of rules. It reads no rule.
//!
//! Total: any text has an answer, in one pass.

use std::ops::Range;

/// What was found, in the order of the text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Statements {
    pub includes: Vec<Include>,
    pub rules: Vec<Declared>,
    /// Nothing but includes and comments.
    pub is_index: bool,
}

/// `include "path"`.
#[derive(Debug, PartialEq, Eq)]
pub struct Include {
    /// Bytes of the whole statement.
    pub range: Range<usize>,
    /// From 1.
    pub line: u32,
    pub path: String,
}

/// `rule name`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Declared {
    pub name: String,
    /// From 1.
    pub line: u32,
}

/// What the last thing was: after a value a `/` divides, elsewhere it begins a regular expression.
enum Last {
    Word(Range<usize>),
    Value,
    Other,
}

/// Reads a whole file.
pub fn statements(text: &str) -> Statements {
    let bytes = text.as_bytes();
    let at = |n: usize| bytes.get(n).copied().unwrap_or(0);
    let mut found = Statements::default();
    let (mut n, mut line, mut depth, mut last, mut others) = (0, 1u32, 0u32, Last::Other, 0usize);
    // The word before the last one, at the top level: `include` or `rule`.
    let mut awaited: Option<(&str, usize, u32)> = None;
    while n < bytes.len() {
        let from = n;
        match at(n) {
            b'/' if at(n + 1) == b'/' => n = end_of(bytes, n, |rest| rest.starts_with(b"\n")),
            b'/' if at(n + 1) == b'*' => n = (end_of(bytes, n + 2, |rest| rest.starts_with(b"*/")) + 2).min(bytes.len()),
            b'"' => {
                n = end_of_string(bytes, n);
                if let Some(("include", start, line)) = awaited.take() {
                    let path = text.get(from + 1..n.saturating_sub(1).max(from + 1)).unwrap_or_default().to_owned();
                    found.includes.push(Include { range: start..n, line, path });
                } else {
                    others += 1;
                }
                last = Last::Value;
            }
            b'/' if begins_regex(text, &last) => {
                n = end_of_regex(bytes, n);
                (last, others) = (Last::Value, others + 1);
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                n = end_of(bytes, n, |rest| !rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'));
                let word = text.get(from..n).unwrap_or_default();
                if depth == 0 {
                    match awaited.take() {
                        Some(("rule", ..)) => found.rules.push(Declared { name: word.to_owned(), line }),
                        _ if word == "include" || word == "rule" => awaited = Some((word, from, line)),
                        _ => {}
                    }
                    others += usize::from(word != "include");
                }
                last = Last::Word(from..n);
            }
            byte if byte.is_ascii_whitespace() => n += 1,
            byte => {
                n += 1;
                others += 1;
                awaited = None;
                depth = match byte {
                    b'{' => depth + 1,
                    b'}' => depth.saturating_sub(1),
                    _ => depth,
                };
                last = if matches!(byte, b')' | b']') { Last::Value } else { Last::Other };
            }
        }
        let passed = bytes.get(from..n).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count();
        line = line.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
    }
    found.is_index = others == 0 && !found.includes.is_empty();
    found
}

/// Where `is_end` first says so of what is left, or the end of the text.
fn end_of(bytes: &[u8], from: usize, is_end: impl Fn(&[u8]) -> bool) -> usize {
    (from..bytes.len()).find(|n| bytes.get(*n..).is_some_and(&is_end)).unwrap_or(bytes.len())
}

/// Behind the closing quote; a string without one ends with its line, one in three quotes may have many.
fn end_of_string(bytes: &[u8], from: usize) -> usize {
    if bytes.get(from..).is_some_and(|rest| rest.starts_with(b"\"\"\"")) {
        return (end_of(bytes, from + 3, |rest| rest.starts_with(b"\"\"\"")) + 3).min(bytes.len());
    }
    behind(bytes, from, b'"')
}

fn end_of_regex(bytes: &[u8], from: usize) -> usize {
    behind(bytes, from, b'/')
}

/// Behind the next `close` that no backslash hides, or at the end of the line.
fn behind(bytes: &[u8], from: usize, close: u8) -> usize {
    let mut n = from + 1;
    while let Some(byte) = bytes.get(n) {
        match byte {
            b'\\' => n += 2,
            b'\n' => return n,
            byte if *byte == close => return n + 1,
            _ => n += 1,
        }
    }
    bytes.len()
}

fn begins_regex(text: &str, last: &Last) -> bool {
    match last {
        Last::Word(word) => text.get(word.clone()) == Some("matches"),
        Last::Value => false,
        Last::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(text: &str) -> Vec<(String, u32)> {
        statements(text).rules.into_iter().map(|rule| (rule.name, rule.line)).collect()
    }

    #[test]
    fn includes_and_rules_are_found_where_they_are_statements() {
        let text = "import \"pe\"\n// include \"no.yar\"\n/* rule no */ include \"a b.yar\"\nprivate rule one : t { \n strings: $a = \"include \" $b = \
                    /rule {3} \\/\"x/ $c = { 41 ?? [2-4] 42 }\n condition: $a and 6/2 == 3 and rule_x matches /\\}/ }\nglobal\nrule two\n{condition: \
                    true}include\n\"sub/c.yar\"";
        let found = statements(text);
        let includes: Vec<_> = found.includes.iter().map(|include| (include.path.as_str(), include.line)).collect();
        assert_eq!(includes, [("a b.yar", 3), ("sub/c.yar", 9)]);
        assert_eq!(&text[found.includes[0].range.clone()], "include \"a b.yar\"");
        assert_eq!(rules(text), [("one".to_owned(), 4), ("two".to_owned(), 8)]);
        assert!(!found.is_index);
        assert!(statements("/* all */\ninclude \"a\" // b\ninclude \"c\"\n").is_index);
        assert!(!statements("// nothing\n").is_index);
    }

    #[test]
    fn texts_in_three_quotes_hide_what_they_hold() {
        let text = "rule a { meta: d = \"\"\"\ninclude \"x\" }\n\"\"\" condition: true }\nrule b { condition: true }";
        assert_eq!(rules(text), [("a".to_owned(), 1), ("b".to_owned(), 4)]);
        assert!(statements(text).includes.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "[ -~\\n\"/{}\u{e9}]{0,80}") {
            for include in statements(&text).includes {
                prop_assert!(text.get(include.range).is_some());
            }
        }
    }
}
