//! URIs as they may be shown.

use std::borrow::Cow;

/// What is left of a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uri {
    Full,
    /// Without its query.
    Path,
    /// With `***` for the values of these parameters, named in lower case.
    Redact(Vec<String>),
}

/// What stands for a value that is not shown.
const HIDDEN: &str = "***";

impl Uri {
    /// A URI as it may be shown.
    pub fn show<'u>(&self, uri: &'u str) -> Cow<'u, str> {
        let Some((path, query)) = uri.split_once(['?', '#']) else { return Cow::Borrowed(uri) };
        match self {
            Uri::Full => Cow::Borrowed(uri),
            Uri::Path => Cow::Borrowed(path),
            Uri::Redact(names) => redact(uri, uri.len() - query.len(), names),
        }
    }
}

/// - `from`: where the query begins.
fn redact<'u>(uri: &'u str, from: usize, names: &[String]) -> Cow<'u, str> {
    let (mut out, mut done) = (String::new(), 0);
    let mut at = from;
    while let Some(part) = uri.get(at..).map(|rest| rest.split(['&', ';', '?', '#']).next().unwrap_or("")) {
        if let Some((name, _)) = part.split_once('=').filter(|(name, value)| !value.is_empty() && is_named(name, names)) {
            out.push_str(uri.get(done..at + name.len() + 1).unwrap_or_default());
            out.push_str(HIDDEN);
            done = at + part.len();
        }
        at += part.len() + 1;
    }
    if done == 0 {
        return Cow::Borrowed(uri);
    }
    out.push_str(uri.get(done..).unwrap_or_default());
    Cow::Owned(out)
}

/// True for a listed name, also percent-encoded or as `user[password]`.
fn is_named(name: &str, names: &[String]) -> bool {
    let plain = decoded(name).to_ascii_lowercase();
    let last = plain.strip_suffix(']').and_then(|inside| inside.rsplit_once('[')).map_or("", |(_, last)| last);
    names.iter().any(|known| *known == plain || *known == last)
}

/// Text with its `%XX` of ASCII decoded.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        match after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = after.get(2..).unwrap_or("");
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The longest front of `text` of at most `max` bytes that ends between characters.
pub fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_listed_parameters_are_hidden() {
        let names = ["password", "token"].map(str::to_owned).to_vec();
        for (uri, expected) in [
            ("/a?user=x&password=y", "/a?user=x&password=***"),
            ("/a?PassWord=y&b=c", "/a?PassWord=***&b=c"),
            ("/a?pass%77ord=y", "/a?pass%77ord=***"),
            ("/a?user[password]=y;token=z#f", "/a?user[password]=***;token=***#f"),
            ("/a#token=z", "/a#token=***"),
            ("/a?token=z=é", "/a?token=***"),
            ("/a?password=", "/a?password="),
            ("/a?password", "/a?password"),
            ("/a?passwords=y&%=%zz", "/a?passwords=y&%=%zz"),
            ("/password=y", "/password=y"),
            ("", ""),
        ] {
            assert_eq!(Uri::Redact(names.clone()).show(uri), expected, "{uri}");
            assert_eq!(Uri::Full.show(uri), uri);
        }
        assert_eq!(Uri::Path.show("/a?b=c#d"), "/a");
        assert_eq!(Uri::Path.show("/a"), "/a");
    }

    #[test]
    fn a_cut_falls_between_characters() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("", 5), cut("abc", 2)), ("a", "aé", "", "ab"));
    }
}
