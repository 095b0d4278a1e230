//! What a request for alerts asks for. Pure.

use crate::{
    detect::kept::{Before, Query, brief::severity_of},
    limits,
};

/// Days that are looked back by default.
const DAYS: f64 = 7.0;
const DAY_MS: f64 = 86_400_000.0;
/// Every parameter.
const KNOWN: &str = "severity, source_type, entity, days, limit, before";

/// Reads the parameters of a request.
///
/// - `now_ms`: wall time, milliseconds since 1970.
///
/// # Errors
/// Which parameter is wrong, and what it should be.
pub(super) fn query(asked: &[(String, String)], now_ms: i64) -> Result<Query, String> {
    let mut query = Query { since_ms: back(now_ms, DAYS), ..Query::default() };
    for (name, value) in asked {
        match name.as_str() {
            "severity" => {
                let word = severity_of(value)
                    .ok_or_else(|| format!("severity={value:?} is none of Critical, High, Medium, Low, Informational"))?;
                query.severity = Some(word);
            }
            "source_type" => query.source = Some(value.clone()),
            "entity" => query.entity = Some(value.clone()),
            "days" => {
                let days = value.parse().ok().filter(|days: &f64| days.is_finite() && *days >= 0.0);
                query.since_ms = back(now_ms, days.ok_or_else(|| format!("days={value:?} is no number of days from 0"))?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=limits::ALERTS_PAGE).contains(limit));
                query.limit = limit.ok_or_else(|| format!("limit={value:?} is no whole number from 1 to {}", limits::ALERTS_PAGE))?;
            }
            "before" => query.before = Some(before(value)?),
            _ => return Err(format!("no parameter {name:?}; known: {KNOWN}")),
        }
    }
    Ok(query)
}

/// A time, or the id of an alert.
fn before(value: &str) -> Result<Before, String> {
    if let Ok(time) = value.parse::<jiff::Timestamp>() {
        return Ok(Before::Time(time.as_millisecond()));
    }
    let is_id = !value.is_empty()
        && value.len() <= limits::ALERT_ID_BYTES
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    is_id
        .then(|| Before::Alert(value.to_owned()))
        .ok_or_else(|| format!("before={value:?} is neither the id of an alert nor a time as RFC 3339"))
}

fn back(now_ms: i64, days: f64) -> i64 {
    // A span beyond what numbers hold is all there is: the cast keeps to the ends.
    now_ms.saturating_sub((days * DAY_MS) as i64)
}

/// The header that names the next page.
///
/// - `next`: id behind which it begins.
pub(super) fn link(asked: &[(String, String)], next: &str) -> String {
    let mut link = "</api/alerts?".to_owned();
    for (name, value) in asked.iter().filter(|(name, _)| name != "before") {
        link.push_str(name);
        link.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => link.push(char::from(byte)),
                _ => link.push_str(&format!("%{byte:02X}")),
            }
        }
        link.push('&');
    }
    link + "before=" + next + ">; rel=\"next\""
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_773_480_423_123;

    fn of(text: &str) -> Result<Query, String> {
        let pairs: Vec<(String, String)> =
            text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        query(&pairs, NOW)
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let week = NOW - 7 * 86_400_000;
        assert_eq!(of(""), Ok(Query { since_ms: week, ..Query::default() }));
        let all = of("severity=high&source_type=kafka&entity=host 1&days=0.5&limit=10&before=a-1");
        let expected = Query {
            severity: Some("High"),
            source: Some("kafka".into()),
            entity: Some("host 1".into()),
            since_ms: NOW - 43_200_000,
            before: Some(Before::Alert("a-1".into())),
            limit: 10,
        };
        assert_eq!(all, Ok(expected));
        assert_eq!(of("before=2026-03-14T10:27:03.123+01:00").map(|query| query.before), Ok(Some(Before::Time(NOW))));
        assert!(of("days=1e300").is_ok_and(|query| query.since_ms < 0));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, why) in [
            ("days=week", "days=\"week\" is no number of days"),
            ("days=", "is no number of days"),
            ("days=-1", "is no number of days"),
            ("days=NaN", "is no number of days"),
            ("limit=0", "limit=\"0\" is no whole number from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("severity=grave", "is none of Critical"),
            ("before=a b", "is neither the id of an alert nor a time"),
            ("severty=High", "no parameter \"severty\"; known: severity, source_type"),
        ] {
            let told = of(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn the_next_page_asks_for_the_same() {
        let asked = [("entity", "höst&1"), ("before", "x"), ("limit", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(link(&asked, "ff"), "</api/alerts?entity=h%C3%B6st%261&limit=2&before=ff>; rel=\"next\"");
    }
}
