//! Rule ids of the Core Rule Set, and what they are about.

use std::borrow::Cow;

use crate::alert::{Kind, Node};

/// Digits of the longest id.
const DIGITS_MAX: usize = 10;

/// What an id is taken from: text, or a number as it was written.
///
/// `None` for anything but 1 to 10 decimal digits; a number may have a fraction of zeros.
pub fn id(node: Node<'_>) -> Option<Cow<'_, str>> {
    match node.kind() {
        Kind::String => id_text(super::event::trimmed(node.as_str()?)).map(Cow::Borrowed),
        Kind::Number => {
            let text = node.number()?;
            if let Some(text) = id_text(text) {
                return Some(Cow::Borrowed(text));
            }
            let number: f64 = text.parse().ok()?;
            if number.fract() != 0.0 || !(0.0..1e10).contains(&number) {
                return None;
            }
            // Below 10¹⁰ every whole double is exact.
            Some(Cow::Owned(format!("{number:.0}")))
        }
        _ => None,
    }
}

/// The text, if it is an id.
pub fn id_text(text: &str) -> Option<&str> {
    ((1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

/// The first three digits of an id of the Core Rule Set: 942 is SQL injection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Category(u8);

impl Category {
    /// Of an id: only those of six digits that begin with a 9 have one.
    pub fn of(id: &str) -> Option<Self> {
        match id.as_bytes() {
            [b'9', tens, ones, _, _, _] => Some(Self((tens - b'0') * 10 + (ones - b'0'))),
            _ => None,
        }
    }

    /// Of its number, 900 to 999.
    pub fn new(number: u16) -> Option<Self> {
        (900..1000).contains(&number).then(|| Self((number - 900) as u8))
    }

    /// 900 to 999.
    pub fn number(self) -> u16 {
        900 + u16::from(self.0)
    }

    /// Set-up, exceptions, evaluation and reports: rules that say nothing of the request.
    pub fn is_bookkeeping(self) -> bool {
        matches!(self.number(), ..910 | 949 | 959 | 980..)
    }

    /// Rules that look at the answer.
    pub fn is_outbound(self) -> bool {
        matches!(self.number(), 950..960)
    }

    /// What its rules are about, in one word.
    pub fn attack_type(self) -> &'static str {
        match self.number() {
            910 => "reputation",
            911 => "method",
            912 => "dos",
            913 => "scanner",
            920 | 921 => "protocol",
            922 => "multipart",
            930 => "lfi",
            931 => "rfi",
            932 => "rce",
            933 => "php",
            934 => "generic",
            941 => "xss",
            942 => "sqli",
            943 => "session",
            944 => "java",
            950..=954 | 956 => "leak",
            955 => "webshell",
            _ => "other",
        }
    }

    /// Of one of the set's tags, such as `attack-sqli`; `None` for those that name no one attack.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let number = match tag.strip_prefix("attack-")? {
            "reputation-ip" => 910,
            "dos" => 912,
            "reputation-scanner" => 913,
            "multipart-header" => 922,
            "lfi" => 930,
            "rfi" => 931,
            "rce" => 932,
            "injection-php" => 933,
            "injection-generic" | "ssrf" | "ssti" => 934,
            "xss" => 941,
            "sqli" => 942,
            "fixation" => 943,
            "injection-java" => 944,
            _ => return None,
        };
        Self::new(number)
    }
}

/// The word for an event without a category.
pub const OTHER: &str = "other";

/// A set of categories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(u128);

impl Categories {
    /// Puts one in.
    pub fn insert(&mut self, category: Category) {
        self.0 |= 1 << category.0;
    }
    /// In the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Category> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let lowest = left.checked_sub(1)? & left ^ left;
            left ^= lowest;
            // Below 128 by its type.
            Some(Category(lowest.trailing_zeros() as u8))
        })
    }
}

/// Points that an event gets on top for each category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights([i32; 100]);

impl Default for Weights {
    /// Those of the document: command execution 35, SQL injection 30, cross-site scripting 25, local files 20.
    fn default() -> Self {
        let mut weights = Self([0; 100]);
        for (number, points) in [(930, 20), (932, 35), (941, 25), (942, 30)] {
            if let Some(category) = Category::new(number) {
                weights.set(category, points);
            }
        }
        weights
    }
}

impl Weights {
    /// Changes one.
    pub fn set(&mut self, category: Category, points: i32) {
        if let Some(slot) = self.0.get_mut(usize::from(category.0)) {
            *slot = points;
        }
    }
    /// Of a category; 0 without one.
    pub fn of(&self, category: Option<Category>) -> i32 {
        category.and_then(|category| self.0.get(usize::from(category.0)).copied()).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;
    use crate::alert::Parser;

    #[test]
    fn an_id_is_one_to_ten_digits_however_written() {
        for (json, expected) in [
            ("\"942100\"", Some("942100")),
            ("\" 942100 \"", Some("942100")),
            ("942100", Some("942100")),
            ("942100.0", Some("942100")),
            ("9.421e5", Some("942100")),
            ("942100.5", None),
            ("-942100", None),
            ("\"0001\"", Some("0001")),
            ("1234567890", Some("1234567890")),
            ("12345678901", None),
            ("1e300", None),
            ("\"sqli\"", None),
            ("\"\"", None),
            ("true", None),
            ("null", None),
            ("[942100]", None),
        ] {
            let mut parser = Parser::new();
            assert_eq!(id(parser.alert(json.as_bytes()).root().unwrap()).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn only_six_digits_that_begin_with_nine_have_a_category() {
        let number = |id: &str| Category::of(id).map(Category::number);
        assert_eq!(number("942100"), Some(942));
        for id in ["94210", "9421000", "842100", "1001", ""] {
            assert_eq!(number(id), None, "{id}");
        }
        let kept: Vec<u16> = (900..1000).filter(|n| !Category::new(*n).unwrap().is_bookkeeping()).collect();
        assert_eq!((kept.first(), kept.last()), (Some(&910), Some(&979)));
        assert!(!kept.contains(&949) && !kept.contains(&959));
    }

    #[test]
    fn a_set_gives_back_what_was_put_in() {
        let mut set = Categories::default();
        for number in [999, 900, 942, 942] {
            set.insert(Category::new(number).unwrap());
        }
        assert_eq!(set.iter().map(Category::number).collect::<Vec<_>>(), [900, 942, 999]);
    }
}
