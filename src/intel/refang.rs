//! Undoes what people do to indicators so that nobody clicks on them, and what JSON does to `/`.
//!
//! Only forms with brackets: the bare words ` at ` and ` dot ` stand in too many logs. Schemes
//! (`hxxp`) are read by `url`.

use std::borrow::Cow;

/// Bracketed forms and what they stand for.
const FORMS: &[(&[u8], &[u8])] = &[
    (b"[.]", b"."),
    (b"(.)", b"."),
    (b"{.}", b"."),
    (b"[dot]", b"."),
    (b"(dot)", b"."),
    (b"{dot}", b"."),
    (b"[:]", b":"),
    (b"[://]", b"://"),
    (b"[:/]/", b"://"),
    (b"[:]//", b"://"),
    (b"[/]", b"/"),
    (b"[//]", b"//"),
    (b"[@]", b"@"),
    (b"(@)", b"@"),
    (b"{@}", b"@"),
    (b"[at]", b"@"),
    (b"(at)", b"@"),
    (b"{at}", b"@"),
];

/// The text with those forms undone; the text itself where there are none.
pub(super) fn refang(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let begins = |at: &usize| form(bytes, *at).is_some();
    let first = memchr::memchr3_iter(b'[', b'(', b'{', bytes).find(begins);
    let second = memchr::memchr2_iter(b'\\', b']', bytes).find(begins);
    let Some(first) = first.into_iter().chain(second).min() else { return Cow::Borrowed(text) };
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let (mut kept, mut at) = (0, first);
    while let Some(byte) = bytes.get(at) {
        let form = if matches!(byte, b'[' | b'(' | b'{' | b'\\' | b']') { form(bytes, at) } else { None };
        let Some(Form { from, to, stands_for }) = form.filter(|form| form.from >= kept) else {
            at += 1;
            continue;
        };
        out.extend_from_slice(bytes.get(kept..from).unwrap_or_default());
        match stands_for {
            Stands::For(form) => out.extend_from_slice(form),
            Stands::ForByte(byte) => out.push(byte),
        }
        (kept, at) = (to, to);
    }
    out.extend_from_slice(bytes.get(kept..).unwrap_or_default());
    // Only whole ASCII forms were replaced, by ASCII, so this is UTF-8.
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// A form that was found, its place and its meaning.
struct Form {
    from: usize,
    to: usize,
    stands_for: Stands,
}

enum Stands {
    For(&'static [u8]),
    ForByte(u8),
}

/// The form whose sign stands at a place: its opening bracket or backslash, or its one closing bracket.
fn form(bytes: &[u8], at: usize) -> Option<Form> {
    let rest = bytes.get(at..)?;
    let before = at.checked_sub(1).and_then(|n| bytes.get(n)).copied().unwrap_or(b' ');
    let dot = |from| Some(Form { from, to: from + 2, stands_for: Stands::For(b".") });
    match rest {
        // `194[.26`: half a bracket between two halves of a word.
        [b'[', b'.', next, ..] if before.is_ascii_alphanumeric() && next.is_ascii_alphanumeric() => dot(at),
        // Most brackets are no form: the sign behind them tells.
        [b'[' | b'(' | b'{', b'.' | b'd' | b'D' | b':' | b'/' | b'@' | b'a' | b'A', ..] => FORMS.iter().find_map(|(form, stands_for)| {
            let is_it = rest.get(..form.len())?.eq_ignore_ascii_case(form);
            is_it.then_some(Form { from: at, to: at + form.len(), stands_for: Stands::For(stands_for) })
        }),
        // `194.]26`: the other half.
        [b']', next, ..] if before == b'.' && next.is_ascii_alphanumeric() => {
            let from = at.checked_sub(1)?;
            let word = from.checked_sub(1).and_then(|n| bytes.get(n)).is_some_and(u8::is_ascii_alphanumeric);
            word.then(|| dot(from)).flatten()
        }
        [b'\\', b'/', ..] => Some(Form { from: at, to: at + 2, stands_for: Stands::For(b"/") }),
        // `45\.155`: a dot of a regular expression. Between letters it is more often a folder's.
        [b'\\', b'.', next, ..] if before.is_ascii_digit() && next.is_ascii_digit() => dot(at),
        // `\u003c`: what some writers of JSON make of `<`, `>`, `&`, `=` and `'`.
        [b'\\', b'u', b'0', b'0', high, low, ..] if before != b'\\' => {
            let digit = |b: u8| char::from(b).to_digit(16);
            let byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok().filter(|b| (b' '..0x7f).contains(b))?;
            Some(Form { from: at, to: at + 6, stands_for: Stands::ForByte(byte) })
        }
        _ => None,
    }
}
