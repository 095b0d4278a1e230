//! Which variable of a request a rule hit, as the engines tell it in words.

use crate::alert::Node;

/// Characters of a variable that are kept: a client can make names of any length.
const CHARS_MAX: usize = 120;

/// The variable that an entry of an event's messages names, such as `ARGS:q`.
///
/// ModSecurity 3 says ``against variable `ARGS:q' (Value: …``, ModSecurity 2 ` at ARGS:q.` or `against "ARGS:q"
/// required`. Where neither is there, the rule's own words may: `found within ARGS:q: …`.
pub(super) fn of(entry: Node<'_>) -> Option<String> {
    if let Some(line) = entry.as_str() {
        return of_line(line);
    }
    let details = entry.get("details").or_else(|| entry.get("data"));
    let text = |key: &str| details.and_then(|details| details.get(key)).and_then(Node::as_str);
    let told = text("match").and_then(of_match).or_else(|| text("data").and_then(of_data));
    told.map(cut).or_else(|| entry.get("error_message").and_then(Node::as_str).and_then(of_line))
}

/// What a client wrote stands behind the variable, or is a part of it: the first place counts.
fn of_match(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("against variable `")?;
    named(rest.split("' (Value: `").next()?)
}

fn of_line(line: &str) -> Option<String> {
    let (words, brackets) = line.split_at(line.rfind("[file \"").unwrap_or(line.len()));
    let words = words.trim_end();
    let required = || words.split_once("\" against \"")?.1.strip_suffix("\" required.").and_then(named);
    let at = || {
        let (_, rest) = words.split_once("\" at ").or_else(|| words.split_once(" at "))?;
        named(rest.strip_suffix('.').unwrap_or(rest))
    };
    let data = || of_data(brackets.split_once("[data \"")?.1);
    required().or_else(at).or_else(data).map(cut)
}

fn of_data(text: &str) -> Option<&str> {
    text.split(" found within ").skip(1).find_map(|rest| named(rest.split(": ").next().unwrap_or(rest)))
}

/// The text, if it is a variable: the name of a collection, alone or with a member.
fn named(text: &str) -> Option<&str> {
    let collection = text.split(':').next().unwrap_or_default();
    let is_name = collection.len() > 1 && collection.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit());
    is_name.then_some(text)
}

fn cut(text: impl AsRef<str>) -> String {
    text.as_ref().chars().take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Parser;

    fn of_json(json: &str) -> Option<String> {
        let mut parser = Parser::new();
        let mut alert = parser.alert(json.as_bytes());
        of(alert.root().unwrap())
    }

    #[test]
    fn engines_name_the_variable_in_their_words() {
        for (entry, expected) in [
            (
                serde_json::json!({"details": {"match": "Matched \"Operator `Rx' with parameter `x' against variable `ARGS:q' (Value: `against variable `TX:1' (Value: `y' )"}}),
                Some("ARGS:q"),
            ),
            (
                serde_json::json!({"details": {"match": "against variable `ARGS_NAMES:${$s}['q'](13)' (Value: `1' )"}}),
                Some("ARGS_NAMES:${$s}['q'](13)"),
            ),
            (
                serde_json::json!({"details": {"match": "detected SQLi using libinjection.", "data": "Matched Data: s&1 found within ARGS:id: 1' or 1=1"}}),
                Some("ARGS:id"),
            ),
            (serde_json::json!({"details": {"match": "detected XSS using libinjection."}}), None),
            (serde_json::json!("Warning. Pattern match \"a\" at ARGS:q. [file \"x\"] [id \"1\"]"), Some("ARGS:q")),
            (
                serde_json::json!("Warning. Pattern match \"look at this\" at REQUEST_HEADERS:Host. [file \"x\"]"),
                Some("REQUEST_HEADERS:Host"),
            ),
            (serde_json::json!("Warning. Operator GE matched 5 at TX:anomaly_score. [file \"x\"]"), Some("TX:anomaly_score")),
            (
                serde_json::json!("Warning. Match of \"rx ^0?$\" against \"REQUEST_HEADERS:Content-Length\" required. [file \"x\"]"),
                Some("REQUEST_HEADERS:Content-Length"),
            ),
            (serde_json::json!("Warning. Pattern match \"a\" at ARGS_NAMES:x at ARGS:y. [file \"x\"]"), Some("ARGS_NAMES:x at ARGS:y")),
            (
                serde_json::json!(
                    "Warning. detected SQLi using libinjection with fingerprint 's&1c' [file \"x\"] [data \"Matched Data: s&1c found within ARGS:id: 1\"]"
                ),
                Some("ARGS:id"),
            ),
            (serde_json::json!("Warning. Unconditional match in SecAction. [file \"x\"]"), None),
            (serde_json::json!({"data": {"data": "Matched Data: a found within ARGS_GET:x: a"}}), Some("ARGS_GET:x")),
            (serde_json::json!({"details": {}}), None),
            (serde_json::json!(7), None),
        ] {
            assert_eq!(of_json(&entry.to_string()).as_deref(), expected, "{entry}");
        }
        let long = format!("Warning. Pattern match \"a\" at ARGS:{}. [file \"x\"]", "é".repeat(500));
        assert_eq!(of_json(&serde_json::json!(long).to_string()).unwrap().chars().count(), CHARS_MAX);
    }
}
