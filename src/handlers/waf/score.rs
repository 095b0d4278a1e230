//! How grave an event is.
//!
//! ```text
//! severity = base × anomaly_multiplier + weight of each category, once + points for a bad address
//! ```
//!
//! The base is the anomaly score, from the first of these that says something: the event itself, a
//! filter before us, a rule that states it, the sum of the rules' points. Rules state it only at or
//! above the threshold, and inbound and outbound apart:
//!
//! | | stated by, the first that does | else the points of |
//! |---|---|---|
//! | inbound | 949110 and 949111, 980170 (`blocking=`), 980130 and 980120 | all rules that are not outbound |
//! | outbound | 959100 and 959101, 980170, 980140 and 980150 | 950 to 956 |
//!
//! Points are summed up for rules at or below the blocking paranoia level only: those above it are there
//! to be looked at, not to raise alarms.

use std::borrow::Cow;

use memchr::memmem;

use super::{
    event::Event,
    message::{self, Match},
    rule::{self, Categories, Category, Weights},
};

/// What the operator sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub levels: Levels,
    /// Severity from which on an event is an alert.
    pub alert_at: i64,
    pub weights: Weights,
    /// Only the category of the rule that names the event counts.
    pub primary_only: bool,
    /// Categories come from tags where one names an attack.
    pub by_tag: bool,
    pub multiplier: i64,
    /// Rules above it add no points.
    pub paranoia: u32,
    /// Points for an address of bad repute.
    pub reputation: i64,
}

/// Where levels begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    pub critical: i64,
    pub high: i64,
    pub medium: i64,
}

impl Levels {
    /// The word for a severity.
    pub fn word(&self, severity: i64) -> &'static str {
        match severity {
            s if s >= self.critical => "critical",
            s if s >= self.high => "high",
            s if s >= self.medium => "medium",
            _ => "low",
        }
    }
}

/// Where the anomaly score came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Transaction,
    Classification,
    Reported,
    Summed,
}

impl From {
    /// As metrics and `try --explain` have it.
    pub fn word(self) -> &'static str {
        match self {
            From::Transaction => "transaction",
            From::Classification => "classification",
            From::Reported => "reported",
            From::Summed => "summed",
        }
    }
}

/// What an event came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score<'t> {
    /// The anomaly score.
    pub base: i32,
    pub from: From,
    pub severity: i64,
    pub level: &'static str,
    /// The rule that names the event; empty if none does.
    pub rule_id: Cow<'t, str>,
    pub attack_type: &'static str,
    /// It is grave enough.
    pub alert: bool,
    /// Messages past the limit, which were not looked at.
    pub unread: usize,
}

/// Scores an event.
///
/// - `is_bad`: its address is of bad repute.
/// - `messages_max`: messages that are looked at.
/// - `set_off`: gets the ids of the rules that say something of the request.
pub fn score<'t>(event: &Event<'t>, rules: &Rules, is_bad: bool, messages_max: usize, set_off: &mut Vec<u64>) -> Score<'t> {
    set_off.clear();
    let by_tag = rules.by_tag.then_some(&rules.weights);
    let mut sum = Sum::default();
    let listed = event.messages.map_or(0, |list| list.len());
    for entry in event.messages.into_iter().flat_map(|list| list.elements()).take(messages_max) {
        if let Some(found) = message::read(entry, by_tag) {
            if !found.is_bookkeeping() {
                set_off.extend(found.id.parse::<u64>());
            }
            sum.take(found, rules);
        }
    }
    let classified = event.classification.rule_id.and_then(rule::id).map(|id| {
        // The category that its own message has, which a tag may have given.
        let category = match &sum.best {
            Some(best) if best.id == id => best.category,
            _ => Category::of(&id),
        };
        (id, category)
    });
    let (rule_id, category) = classified.or_else(|| sum.best.take().map(|best| (best.id, best.category))).unwrap_or_else(|| {
        let id = sum.first.take().unwrap_or_default();
        let category = Category::of(&id);
        (id, category)
    });
    if let Ok(id) = rule_id.parse()
        && !category.is_some_and(Category::is_bookkeeping)
        && !set_off.contains(&id)
    {
        set_off.push(id);
    }
    let (base, from) = match (event.score, event.classification.score) {
        (Some(score), _) => (score, From::Transaction),
        (None, Some(score)) if score > 0 => (score, From::Classification),
        _ => sum.base(),
    };
    let weights: i64 = if rules.primary_only {
        i64::from(rules.weights.of(category))
    } else {
        if let Some(category) = category.filter(|category| !category.is_bookkeeping()) {
            sum.seen.insert(category);
        }
        sum.seen.iter().map(|category| i64::from(rules.weights.of(Some(category)))).sum()
    };
    let severity = i64::from(base) * rules.multiplier + weights + if is_bad { rules.reputation } else { 0 };
    Score {
        base,
        from,
        severity,
        level: rules.levels.word(severity),
        rule_id,
        attack_type: category.map_or(rule::OTHER, Category::attack_type),
        alert: severity >= rules.alert_at,
        unread: listed.saturating_sub(messages_max),
    }
}

/// What the messages came to so far.
#[derive(Default)]
struct Sum<'t> {
    inbound: i64,
    outbound: i64,
    /// Scores that rules state: inbound and outbound, the more trusted rule first.
    stated: [[Option<i64>; 3]; 2],
    seen: Categories,
    first: Option<Cow<'t, str>>,
    /// The rule with the highest weight, then points, then place.
    best: Option<Best<'t>>,
}

struct Best<'t> {
    rank: (i32, i64),
    id: Cow<'t, str>,
    category: Option<Category>,
}

impl<'t> Sum<'t> {
    fn take(&mut self, found: Match<'t>, rules: &Rules) {
        if self.first.is_none() {
            self.first = Some(found.id.clone());
        }
        if found.is_bookkeeping() {
            self.hear(&found);
            return;
        }
        if let Some(category) = found.category {
            self.seen.insert(category);
        }
        if found.paranoia <= rules.paranoia {
            let sum = if Category::of(&found.id).is_some_and(Category::is_outbound) { &mut self.outbound } else { &mut self.inbound };
            *sum += found.points;
        }
        let rank = (rules.weights.of(found.category), found.points);
        if self.best.as_ref().is_none_or(|best| rank > best.rank) {
            self.best = Some(Best { rank, id: found.id, category: found.category });
        }
    }

    /// Hears what a rule states.
    fn hear(&mut self, found: &Match<'_>) {
        const IN: usize = 0;
        const OUT: usize = 1;
        let places: &[(usize, usize, &[&str])] = match &*found.id {
            "949110" | "949111" => &[(IN, 0, &["Total Score: "])],
            "980170" => &[(IN, 1, &["Inbound Scores: blocking="]), (OUT, 1, &["Outbound Scores: blocking="])],
            "980130" | "980120" => &[(IN, 2, &["Total Inbound Score: "])],
            "959100" | "959101" => &[(OUT, 0, &["Total Score: "])],
            "980140" | "980150" => &[(OUT, 2, &["Total Outbound Score: ", "(score "])],
            _ => return,
        };
        for (side, trust, words) in places {
            let said = words.iter().find_map(|words| number_after(found.text, words));
            if let Some(slot) = self.stated.get_mut(*side).and_then(|side| side.get_mut(*trust)) {
                // Of two, the higher; `None` is below any.
                *slot = said.max(*slot);
            }
        }
    }

    fn base(&self) -> (i32, From) {
        let [inbound, outbound] = self.stated.map(|side| side.into_iter().flatten().next());
        let base = inbound.unwrap_or(self.inbound) + outbound.unwrap_or(self.outbound);
        let from = if inbound.is_some() || outbound.is_some() { From::Reported } else { From::Summed };
        (base.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32, from)
    }
}

/// The whole number right behind some words.
fn number_after(text: &str, words: &str) -> Option<i64> {
    let at = memmem::find(text.as_bytes(), words.as_bytes())? + words.len();
    let rest = text.get(at..)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    // Beyond 18 digits nobody scores.
    rest.get(..digits).filter(|digits| digits.len() <= 18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_right_behind_its_words() {
        assert_eq!(number_after("Exceeded (Total Score: 15)", "Total Score: "), Some(15));
        assert_eq!(number_after("Exceeded (Total Score: 15", "Total Score: "), Some(15));
        for text in ["", "Total Score: ", "Total Score: %{tx.x}", "Total Score: -5", "Total Score: 1234567890123456789"] {
            assert_eq!(number_after(text, "Total Score: "), None, "{text}");
        }
    }

    #[test]
    fn levels_begin_where_they_are_set() {
        let levels = Levels { critical: 80, high: 60, medium: 40 };
        let words = [(80, "critical"), (79, "high"), (60, "high"), (59, "medium"), (40, "medium"), (39, "low"), (-5, "low")];
        for (severity, word) in words {
            assert_eq!(levels.word(severity), word);
        }
    }
}
