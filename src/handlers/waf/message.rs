//! What one entry of an event's messages says: which rule, how grave, at which paranoia level.
//!
//! ModSecurity 2 and Coraza without part K write a line of text: words, then `[key "value"]`,
//! with `\` before quotes in values. The words before `[file "` hold names of arguments as the client
//! wrote them, quotes and all, so a client can write whole brackets there: only what follows the
//! *last* `[file "` counts.

use std::borrow::Cow;

use memchr::memmem;

use super::{
    number,
    rule::{self, Category},
};
use crate::alert::{Kind, Node};

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match<'t> {
    pub id: Cow<'t, str>,
    /// By the id, or by a tag where that is asked for.
    pub category: Option<Category>,
    /// What its severity adds to an anomaly score: 0, or 2 to 5.
    pub points: i64,
    /// 1 where nothing says so.
    pub paranoia: u32,
    /// The rule's message, its macros expanded.
    pub text: &'t str,
}

impl Match<'_> {
    /// True if the rule only keeps the books.
    pub fn is_bookkeeping(&self) -> bool {
        self.category.is_some_and(Category::is_bookkeeping)
    }
}

/// Reads an entry; `None` if it names no rule.
///
/// - `by_tag`: takes the category from the rule's tags, where one names an attack.
pub fn read<'t>(entry: Node<'t>, by_tag: Option<&rule::Weights>) -> Option<Match<'t>> {
    if let Some(line) = entry.as_str() {
        return Brackets::of(line).into_match("", by_tag);
    }
    let (mut message, mut error, mut details, mut data) = ("", "", None, None);
    for (name, value) in entry.members() {
        match name {
            "message" => message = value.as_str().unwrap_or(""),
            "error_message" => error = value.as_str().unwrap_or(""),
            "details" => details = Some(value),
            "data" => data = Some(value),
            _ => {}
        }
    }
    let told = |node: Option<Node<'t>>| Told::of(node?, message, by_tag);
    told(details).or_else(|| told(data)).or_else(|| Brackets::of(error).into_match(message, by_tag))
}

/// An object that tells of a rule.
struct Told;

impl Told {
    fn of<'t>(node: Node<'t>, message: &'t str, by_tag: Option<&rule::Weights>) -> Option<Match<'t>> {
        let (mut rule_id, mut id, mut severity, mut msg, mut tags) = (None, None, None, "", None);
        for (name, value) in node.members() {
            match name {
                "ruleId" => rule_id = Some(value),
                "id" => id = Some(value),
                "severity" => severity = Some(value),
                "msg" => msg = value.as_str().unwrap_or(""),
                "tags" => tags = Some(value),
                _ => {}
            }
        }
        let id = rule_id.and_then(rule::id).or_else(|| id.and_then(rule::id))?;
        let mut tagged = Tagged::default();
        for tag in tags.into_iter().flat_map(Node::elements).filter_map(Node::as_str) {
            tagged.take(tag, by_tag);
        }
        let points = severity.map_or(0, |severity| match severity.kind() {
            Kind::String => points(severity.as_str().unwrap_or("")),
            Kind::Number => number::whole(severity).map_or(0, points_of),
            _ => 0,
        });
        let text = if message.is_empty() { msg } else { message };
        Some(tagged.into_match(id, points, text))
    }
}

/// What the tags of a rule say.
#[derive(Clone, Copy, Debug, Default)]
struct Tagged {
    paranoia: Option<u32>,
    category: Option<Category>,
}

impl Tagged {
    fn take(&mut self, tag: &str, by_tag: Option<&rule::Weights>) {
        if let Some(level) = tag.strip_prefix("paranoia-level/") {
            self.paranoia = self.paranoia.or_else(|| level.parse().ok());
        } else if let (Some(weights), Some(category)) = (by_tag, Category::of_tag(tag))
            && (self.category.is_none() || weights.of(Some(category)) > weights.of(self.category))
        {
            self.category = Some(category);
        }
    }

    fn into_match<'t>(self, id: Cow<'t, str>, points: i64, text: &'t str) -> Match<'t> {
        let own = Category::of(&id);
        let category = if own.is_some_and(Category::is_bookkeeping) { own } else { self.category.or(own) };
        Match { id, category, points, paranoia: self.paranoia.unwrap_or(1), text }
    }
}

/// Points of a severity by name or by number.
fn points(severity: &str) -> i64 {
    let severity = super::event::trimmed(severity);
    let named = [("critical", 5), ("error", 4), ("warning", 3), ("notice", 2)];
    match named.iter().find(|(name, _)| severity.eq_ignore_ascii_case(name)) {
        Some((_, points)) => *points,
        None => number::in_quotes(severity).map_or(0, points_of),
    }
}

/// Points of a severity as syslog numbers it: 2 is critical. 0 also means that there is none.
fn points_of(severity: i32) -> i64 {
    match severity {
        2 => 5,
        3 => 4,
        4 => 3,
        5 => 2,
        _ => 0,
    }
}

/// The part of a line that only the engine writes.
struct Brackets<'t>(&'t str);

impl<'t> Brackets<'t> {
    fn of(line: &'t str) -> Self {
        let bytes = line.as_bytes();
        let from = memmem::rfind(bytes, b"[file \"").or_else(|| memmem::find(bytes, b"[id \""));
        Self(from.and_then(|from| line.get(from..)).unwrap_or(""))
    }

    fn into_match(self, message: &'t str, by_tag: Option<&rule::Weights>) -> Option<Match<'t>> {
        let (mut id, mut msg, mut severity, mut tagged) = (None, None, None, Tagged::default());
        for (key, value) in self {
            match key {
                "id" => id = id.or(Some(value)),
                "msg" => msg = msg.or(Some(value)),
                "severity" => severity = severity.or(Some(value)),
                "tag" => tagged.take(value, by_tag),
                _ => {}
            }
        }
        let id = rule::id_text(super::event::trimmed(id?))?;
        let text = if message.is_empty() { msg.unwrap_or("") } else { message };
        Some(tagged.into_match(Cow::Borrowed(id), severity.map_or(0, points), text))
    }
}

/// Keys and values, values with their backslashes.
impl<'t> Iterator for Brackets<'t> {
    type Item = (&'t str, &'t str);
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let open = memchr::memchr(b'[', self.0.as_bytes())?;
            let rest = self.0.get(open + 1..)?;
            self.0 = rest;
            let end = rest.bytes().position(|b| !b.is_ascii_alphanumeric() && b != b'_').filter(|end| *end > 0);
            let Some((key, value)) = end.and_then(|end| rest.split_at_checked(end)) else { continue };
            let Some(value) = value.strip_prefix(" \"") else { continue };
            let Some(end) = quote(value.as_bytes()) else { continue };
            let (Some(value), Some(after)) = (value.get(..end), value.get(end + 1..)) else { continue };
            if let Some(after) = after.strip_prefix(']') {
                self.0 = after;
                return Some((key, value));
            }
        }
    }
}

/// The place of the first quote without a backslash before it.
fn quote(value: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', value.get(at..)?)?;
        if value.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    fn pairs(line: &str) -> Vec<(&str, &str)> {
        Brackets::of(line).collect()
    }

    #[test]
    fn brackets_are_read_from_the_last_file_on() {
        let line = r#"Warning. Found in ARGS:a"] [file "x"] [id "949110"] [msg "lie"]. [file "/r/a.conf"] [line "1"] [id "920272"] [data "a \"] [id \"1\"] b"] [tag "x"] [tag "y"] [line 5] [severity "CRITICAL"]"#;
        let expected = [
            ("file", "/r/a.conf"),
            ("line", "1"),
            ("id", "920272"),
            ("data", r#"a \"] [id \"1\"] b"#),
            ("tag", "x"),
            ("tag", "y"),
            ("severity", "CRITICAL"),
        ];
        assert_eq!(pairs(line), expected);
        assert_eq!(pairs(r#"Coraza: x [id "5"] [id "6"]"#), [("id", "5"), ("id", "6")]);
        for line in ["", "no brackets", "[file \"", "[file \"a", "[file \"a\"", "[id \"\\", "é[id \"é\\\"é\"é"] {
            assert_eq!(pairs(line), [], "{line}");
        }
        assert_eq!(pairs("é[id \"é\\\"é\"]é"), [("id", "é\\\"é")]);
    }

    #[test]
    fn severities_have_points_by_name_and_by_number() {
        for (severity, expected) in [
            ("CRITICAL", 5),
            ("critical", 5),
            ("2", 5),
            ("Error", 4),
            ("3", 4),
            ("warning", 3),
            ("4", 3),
            ("NOTICE", 2),
            ("5", 2),
            ("0", 0),
            ("1", 0),
            ("6", 0),
            ("-1", 0),
            ("EMERGENCY", 0),
            ("", 0),
        ] {
            assert_eq!(points(severity), expected, "{severity}");
        }
    }

    #[test]
    fn a_tag_may_name_the_attack_but_never_of_a_rule_that_keeps_the_books() {
        let weights = rule::Weights::default();
        let number = |line: &str, by_tag| Brackets::of(line).into_match("", by_tag).unwrap().category.map(Category::number);
        let line = r#"[id "944150"] [tag "attack-injection-java"] [tag "attack-rce"]"#;
        assert_eq!((number(line, None), number(line, Some(&weights))), (Some(944), Some(932)));
        assert_eq!(number(r#"[id "1001"] [tag "attack-sqli"]"#, Some(&weights)), Some(942));
        assert_eq!(number(r#"[id "1001"] [tag "attack-sqli"]"#, None), None);
        assert_eq!(number(r#"[id "949110"] [tag "attack-generic"] [tag "attack-sqli"]"#, Some(&weights)), Some(949));
    }
}
