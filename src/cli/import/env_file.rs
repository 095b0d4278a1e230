//! Files of `NAME=value` lines, and `${NAME:-default}` in values.
//!
//! Two forms: a unit's `EnvironmentFile` (comments begin with `#` or `;`, what follows a value
//! belongs to it) and the `.env` of Docker Compose (a comment may follow a value, values may name
//! other variables).

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

/// Defaults inside defaults, deeper than this, are refused.
const DEPTH_MAX: u32 = 16;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Unit,
    Dotenv,
}

/// One variable of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    /// Without its quotes; `None` for a name alone, which is handed through from outside.
    pub value: Option<String>,
    /// In single quotes: `$` means nothing in it.
    pub literal: bool,
    /// From 1.
    pub line: usize,
}

/// Reads a file; what is no assignment is passed over, as its own readers do.
pub fn lines(text: &str, form: Form) -> Vec<Line> {
    let comments: &[char] = if form == Form::Unit { &['#', ';'] } else { &['#'] };
    let trimmed = text.trim_start_matches('\u{feff}').lines().map(str::trim).enumerate();
    let given = trimmed.filter(|(_, line)| !line.is_empty() && !line.starts_with(comments));
    given
        .filter_map(|(n, line)| {
            let line_of = |name: &str, value: Option<String>, literal| Line { name: name.trim().to_owned(), value, literal, line: n + 1 };
            match line.strip_prefix("export ").unwrap_or(line).split_once('=') {
                Some((name, value)) => {
                    let (value, literal) = value_of(value.trim(), form);
                    Some(line_of(name, Some(value), literal))
                }
                None => (form == Form::Dotenv && is_name(line)).then(|| line_of(line, None, false)),
            }
        })
        .collect()
}

fn value_of(text: &str, form: Form) -> (String, bool) {
    for quote in ['"', '\''] {
        let Some(rest) = text.strip_prefix(quote) else { continue };
        let (inner, after) = match form {
            Form::Unit => match rest.strip_suffix(quote) {
                Some(inner) => (inner, ""),
                None => continue,
            },
            Form::Dotenv => match end_of(rest, quote) {
                Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default()),
                None => continue,
            },
        };
        if after.is_empty() || after.trim_start().starts_with('#') {
            let escaped = form == Form::Dotenv && quote == '"';
            return (if escaped { unescaped(inner) } else { inner.to_owned() }, quote == '\'');
        }
    }
    let value = match (form, text.find(" #").or_else(|| text.find("\t#"))) {
        (Form::Dotenv, _) if text.starts_with('#') => "",
        (Form::Dotenv, Some(at)) => text.get(..at).unwrap_or(text).trim_end(),
        _ => text,
    };
    (value.to_owned(), false)
}

/// Where the closing quote stands.
fn end_of(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            c if c == quote && !escaped => return Some(at),
            '\\' if quote == '"' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('t') => plain.push('\t'),
                Some(c @ ('"' | '\\')) => plain.push(c),
                // `\$` stays for `expand`, which knows it.
                Some(c) => plain.extend(['\\', c]),
                None => plain.push('\\'),
            },
            c => plain.push(c),
        }
    }
    plain
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Writes variables into a text, by the rules of Docker Compose.
///
/// | written | becomes |
/// |---|---|
/// | `$A`, `${A}` | its value; nothing, and an entry in `missing`, where it is not set |
/// | `${A-d}`, `${A:-d}` | `d` where it is not set; with the colon also where it is empty |
/// | `${A+d}`, `${A:+d}` | `d` where it is set; with the colon only where it is not empty |
/// | `${A?why}`, `${A:?why}` | an error where it is not set; with the colon also where it is empty |
/// | `$$`, `\$` | `$` |
///
/// # Errors
/// A brace without end, or a variable that must be set and is not.
pub fn expand(text: &str, of: &dyn Fn(&str) -> Option<String>, missing: &mut Vec<String>) -> Result<String, String> {
    expand_at(text, of, missing, 0)
}

fn expand_at(text: &str, of: &dyn Fn(&str) -> Option<String>, missing: &mut Vec<String>, depth: u32) -> Result<String, String> {
    if depth > DEPTH_MAX {
        return Err(format!("has defaults inside defaults more than {DEPTH_MAX} deep"));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
        if let Some(before) = before.strip_suffix('\\') {
            out.push_str(before);
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = brace(inner).ok_or("has ${ without its }")?;
            out.push_str(&one(inner.get(..end).unwrap_or_default(), of, missing, depth)?);
            rest = inner.get(end + 1..).unwrap_or_default();
        } else {
            let long = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            match after.get(..long).filter(|name| is_name(name)) {
                Some(name) => {
                    out.push_str(&one(name, of, missing, depth)?);
                    rest = after.get(long..).unwrap_or_default();
                }
                None => {
                    out.push('$');
                    rest = after;
                }
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace ends that was opened before `inner`.
fn brace(inner: &str) -> Option<usize> {
    let mut open = 0u32;
    let mut before = ' ';
    for (at, c) in inner.char_indices() {
        match c {
            '{' if before == '$' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

/// What stands between the braces.
fn one(inner: &str, of: &dyn Fn(&str) -> Option<String>, missing: &mut Vec<String>, depth: u32) -> Result<String, String> {
    let long = inner.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let (name, rest) = (inner.get(..long).unwrap_or_default(), inner.get(long..).unwrap_or_default());
    if !is_name(name) {
        return Err(format!("has ${{{inner}}}, which names no variable"));
    }
    let value = of(name);
    let (filled, rest) = match rest.strip_prefix(':') {
        Some(rest) => (value.as_deref().is_some_and(|value| !value.is_empty()), rest),
        None => (value.is_some(), rest),
    };
    let mut word = || expand_at(rest.get(1..).unwrap_or_default(), of, missing, depth + 1);
    match (rest.chars().next(), filled) {
        (None, _) => Ok(value.unwrap_or_else(|| {
            missing.push(name.to_owned());
            String::new()
        })),
        (Some('-'), false) | (Some('+'), true) => word(),
        (Some('-' | '?'), true) => Ok(value.unwrap_or_default()),
        (Some('+'), false) => Ok(String::new()),
        (Some('?'), false) => Err(format!("wants the variable {name}, which is not set: {}", word()?)),
        _ => Err(format!("has ${{{inner}}}, which is no form of Docker Compose")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pairs(text: &str, form: Form) -> Vec<(String, Option<String>)> {
        lines(text, form).into_iter().map(|line| (line.name, line.value)).collect()
    }

    #[test]
    fn a_units_file_is_read() {
        let got = pairs("# a\n; b\n\nexport A=1\nB = \"x y\"\nC='z'\nnothing\nD=\"\nE=1 # no comment\n", Form::Unit);
        let want = [("A", "1"), ("B", "x y"), ("C", "z"), ("D", "\""), ("E", "1 # no comment")];
        assert_eq!(got, want.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
    }

    #[test]
    fn a_dotenv_is_read() {
        let text = "A=1 # one\nB=\"a # \\\"b\\\"\" # two\nC='$x' \nD=#\nE=a#b\nF\nG=\"open\nno name\n; H=1\n";
        let got = pairs(text, Form::Dotenv);
        let some = |text: &str| Some(text.to_owned());
        let want = [
            ("A", some("1")),
            ("B", some("a # \"b\"")),
            ("C", some("$x")),
            ("D", some("")),
            ("E", some("a#b")),
            ("F", None),
            ("G", some("\"open")),
            ("; H", some("1")),
        ];
        assert_eq!(got, want.map(|(name, value)| (name.to_owned(), value)));
        let all = lines(text, Form::Dotenv);
        assert!(all.iter().all(|line| line.literal == (line.name == "C")));
        assert_eq!(all.iter().map(|line| line.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 9]);
    }

    #[test]
    fn variables_are_written_into_a_text() {
        let of = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, want) in [
            ("x", "x"),
            ("$A-${A}", "a-a"),
            ("$$A \\$A $", "$A $A $"),
            ("${NO:-d}${NO-e}${EMPTY:-f}${EMPTY-g}", "def"),
            ("${A:-d}${A:+x}${A+y}${NO+z}${EMPTY:+v}${EMPTY+w}", "axyw"),
            ("${NO:-${A}-${NO2:-https://h/p}}", "a-https://h/p"),
            ("${A:?needed}", "a"),
            ("$5 $", "$5 $"),
        ] {
            let mut missing = Vec::new();
            assert_eq!(expand(text, &of, &mut missing).as_deref(), Ok(want), "{text}");
            assert!(missing.is_empty(), "{text}: {missing:?}");
        }
        let mut missing = Vec::new();
        assert_eq!(expand("<${NO}$NO2>", &of, &mut missing).unwrap(), "<>");
        assert_eq!(missing, ["NO", "NO2"]);
        for (text, part) in [
            ("${A", "without its }"),
            ("${NO:?set it}", "set it"),
            ("${EMPTY:?set it}", "EMPTY"),
            ("${A/b}", "no form"),
            ("${}", "names no variable"),
            (&("${A+".repeat(40) + &"}".repeat(40)), "deep"),
        ] {
            let got = expand(text, &of, &mut Vec::new()).unwrap_err();
            assert!(got.contains(part), "{text}: {got}");
        }
    }
}
