//! Patterns of file names, as a shell has them: `*`, `?`, `[a-z]`, `[!a-z]`.
//!
//! Refuses to know folders: a pattern speaks of one name.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

/// A pattern of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `*`: any characters, also none.
    Any,
    /// `?`: one character.
    One,
    /// This character.
    Is(char),
    /// `[…]`: one character in one of these ranges, or in none of them.
    Among { negated: bool, ranges: Vec<(char, char)> },
}

/// True if `text` is a pattern and not only a name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

impl Pattern {
    /// Reads a pattern; in brackets stand single characters and ranges, `[[]` is the bracket itself.
    ///
    /// # Errors
    /// What is wrong with it and the remedy.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '[' => among(&mut chars)
                    .ok_or_else(|| format!("{text:?} has a \"[\" without its \"]\"; write [[] for the character itself"))?,
                c => Part::Is(c),
            });
        }
        Ok(Self(parts))
    }

    /// True if `name` is one of those meant. A dot at the beginning is meant only where it is written.
    pub fn matches(&self, name: &str) -> bool {
        if name.starts_with('.') && self.0.first() != Some(&Part::Is('.')) {
            return false;
        }
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where the last star stood, and what it has swallowed: the only place worth going back to.
        let mut star: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(part), name.get(at)) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                (Some(one), Some(c)) if one.takes(*c) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match star {
                Some((stood, swallowed)) if swallowed < name.len() => {
                    star = Some((stood, swallowed + 1));
                    part = stood + 1;
                    at = swallowed + 1;
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Any => false,
            Part::One => true,
            Part::Is(is) => *is == c,
            Part::Among { negated, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated,
        }
    }
}

/// Reads what stands behind a `[`; `None` if its end is missing.
fn among(chars: &mut std::str::Chars<'_>) -> Option<Part> {
    let mut inside = Vec::new();
    let mut negated = false;
    loop {
        match chars.next()? {
            '!' | '^' if inside.is_empty() && !negated => negated = true,
            ']' if !inside.is_empty() => break,
            c => inside.push(c),
        }
    }
    let mut ranges = Vec::new();
    let mut rest = inside.as_slice();
    loop {
        rest = match rest {
            [from, '-', to, rest @ ..] => {
                ranges.push((*from, *to));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
            [] => return Some(Part::Among { negated, ranges }),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests state what must hold")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_means_what_a_shell_means() {
        for (pattern, yes, no) in [
            ("*.log", &["a.log", "a.b.log"][..], &["a.log.1", ".log", ".a.log", "log", ""][..]),
            ("*", &["a", "ä", ""], &[".a"]),
            ("", &[""], &["a"]),
            ("a?c", &["abc", "aäc"], &["ac", "abbc"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax", "x"]),
            ("[]]", &["]"], &["["]),
            ("[[]*", &["[a"], &["a"]),
            ("[a-]", &["a", "-"], &["b"]),
            (".*", &[".a", "."], &["a"]),
            ("*a*b*", &["ab", "xaxbx"], &["ba", "b"]),
        ] {
            let read = Pattern::parse(pattern).unwrap();
            assert!(yes.iter().all(|name| read.matches(name)), "{pattern} must match all of {yes:?}");
            assert!(!no.iter().any(|name| read.matches(name)), "{pattern} must match none of {no:?}");
        }
        assert!(Pattern::parse("a[b").is_err());
    }

    /// The obvious, exponential way.
    fn naive(parts: &[Part], name: &[char]) -> bool {
        match (parts, name) {
            ([], []) => true,
            ([Part::Any, rest @ ..], _) => (0..=name.len()).any(|n| naive(rest, &name[n..])),
            ([one, parts @ ..], [c, name @ ..]) => one.takes(*c) && naive(parts, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_obvious_way(pattern in r"[ab*?]{0,8}|[ab*?\[\]!-]{0,8}", name in "[ab-]{0,8}") {
            if let Ok(read) = Pattern::parse(&pattern) {
                let chars: Vec<char> = name.chars().collect();
                prop_assert_eq!(read.matches(&name), naive(&read.0, &chars), "{} {}", pattern, name);
            }
        }
    }
}
