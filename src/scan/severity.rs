//! How bad a rule says that it is: one number, 0 to 10, of the many ways in which authors write it.

use serde_json::Value;

/// `severity` wins over `score`; of a key that repeats, the first that means something counts. 0 if nothing does.
///
/// - `severity`: a whole number, or one in a text, clamped; or `info` 1, `low` 3, `medium` 5, `high` 7, `critical` 9.
/// - `score`: 0 to 100, as THOR and LOKI use it: a tenth of it, rounded half up.
pub fn severity(meta: &[(String, Value)]) -> u8 {
    let of = |key: &str, read: fn(&Value) -> Option<u8>| meta.iter().filter(|(name, _)| name == key).find_map(|(_, value)| read(value));
    of("severity", word_or_number).or_else(|| of("score", score)).unwrap_or(0)
}

fn word_or_number(value: &Value) -> Option<u8> {
    if let Some(n) = whole(value) {
        return Some(clamp(n));
    }
    let word = value.as_str()?.trim();
    [("info", 1), ("low", 3), ("medium", 5), ("high", 7), ("critical", 9)]
        .into_iter()
        .find_map(|(name, n)| word.eq_ignore_ascii_case(name).then_some(n))
}

fn score(value: &Value) -> Option<u8> {
    whole(value).map(|n| clamp(n.saturating_add(5).div_euclid(10)))
}

fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn clamp(n: i64) -> u8 {
    u8::try_from(n.clamp(0, 10)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_way_of_writing_it_has_its_number() {
        for (meta, expected) in [
            (json!([]), 0),
            (json!([["severity", 0]]), 0),
            (json!([["severity", 11]]), 10),
            (json!([["severity", -1]]), 0),
            (json!([["severity", "HIGH"]]), 7),
            (json!([["severity", " 7 "]]), 7),
            (json!([["severity", "n/a"]]), 0),
            (json!([["severity", true]]), 0),
            (json!([["score", 75]]), 8),
            (json!([["score", 74]]), 7),
            (json!([["score", -5]]), 0),
            (json!([["score", i64::MAX]]), 10),
            (json!([["score", 90], ["severity", 2]]), 2),
            (json!([["severity", "n/a"], ["score", 60]]), 6),
        ] {
            let meta: Vec<(String, Value)> = serde_json::from_value(meta).unwrap();
            assert_eq!(severity(&meta), expected, "{meta:?}");
        }
    }
}
