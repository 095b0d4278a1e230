//! What is sent: paths and bodies, in the words of OpenSearch and of Elasticsearch. Pure.

use super::{
    core::{PAGE_MAX, Search, Single},
    seen::Ms,
    tally::Span,
};

/// How long the server keeps a point in time without a word from us.
pub(super) const KEEP_ALIVE: &str = "2m";

/// Whose words are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    OpenSearch,
    Elasticsearch,
}

impl Flavour {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenSearch => "OpenSearch",
            Self::Elasticsearch => "Elasticsearch",
        }
    }
}

/// What documents of equal times are sorted by, so that a page has an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    /// Unique within a point in time; Elasticsearch from 7.12, OpenSearch from 3.3.
    ShardDoc,
    /// Unique within a shard.
    SeqNo,
}

/// What is asked for, by the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Names and patterns.
    pub indices: Vec<String>,
    /// The field that holds a document's time.
    pub field: String,
    /// A filter in the servers' own words, as JSON.
    pub query: Option<String>,
}

/// A text as JSON.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// All but unreserved characters as `%HH`; commas and patterns stay.
fn in_path(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'*' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn indices(wanted: &Wanted) -> String {
    wanted.indices.iter().map(|index| in_path(index)).collect::<Vec<_>>().join(",")
}

/// Path that asks of which types the time field is.
pub(super) fn fields(wanted: &Wanted) -> String {
    format!("/{}/_field_caps?fields={}", indices(wanted), in_path(&wanted.field))
}

/// Path that fixes a point in time, by POST without a body.
pub(super) fn open(flavour: Flavour, wanted: &Wanted) -> String {
    let indices = indices(wanted);
    match flavour {
        Flavour::OpenSearch => format!("/{indices}/_search/point_in_time?keep_alive={KEEP_ALIVE}&allow_partial_pit_creation=false"),
        Flavour::Elasticsearch => format!("/{indices}/_pit?keep_alive={KEEP_ALIVE}"),
    }
}

/// Path and body that let it go, by DELETE.
pub(super) fn close(flavour: Flavour, pit: &str) -> (&'static str, String) {
    match flavour {
        Flavour::OpenSearch => ("/_search/point_in_time", format!("{{\"pit_id\":[{}]}}", json(pit))),
        Flavour::Elasticsearch => ("/_pit", format!("{{\"id\":{}}}", json(pit))),
    }
}

/// Path of every search: half an answer is an error there, and not only to us.
pub(super) const SEARCH: &str = "/_search?allow_partial_search_results=false";

fn point(pit: &str) -> String {
    format!("\"pit\":{{\"id\":{},\"keep_alive\":\"{KEEP_ALIVE}\"}}", json(pit))
}

fn range(wanted: &Wanted, span: Span) -> String {
    let Span { from, until } = span;
    let range = format!("{{\"range\":{{{}:{{\"gte\":{from},\"lt\":{until},\"format\":\"epoch_millis\"}}}}}}", json(&wanted.field));
    match &wanted.query {
        Some(query) => format!("{range},{query}"),
        None => range,
    }
}

fn sort(wanted: &Wanted, tie: Tie) -> String {
    let tie = match tie {
        Tie::ShardDoc => "{\"_shard_doc\":\"asc\"}",
        Tie::SeqNo => "{\"_seq_no\":{\"order\":\"asc\",\"unmapped_type\":\"long\"}}",
    };
    // An index of the pattern may lack the field; its documents then fall to the range.
    let field = json(&wanted.field);
    format!("\"sort\":[{{{field}:{{\"order\":\"asc\",\"unmapped_type\":\"date\",\"numeric_type\":\"date\"}}}},{tie}]")
}

/// Body that asks for a page.
pub(super) fn page(wanted: &Wanted, tie: Tie, search: &Search) -> String {
    let Search { pit, span, after, size, is_bare } = search;
    let after = after.as_ref().map(|after| format!(",\"search_after\":{after}")).unwrap_or_default();
    let bare = if *is_bare { ",\"_source\":false" } else { "" };
    format!(
        "{{\"size\":{size},\"track_total_hits\":false,{},{}{after}{bare},\"query\":{{\"bool\":{{\"filter\":[{}]}}}}}}",
        point(pit),
        sort(wanted, tie),
        range(wanted, *span),
    )
}

/// Body that asks for documents of a point in time by their names. Others with one of the ids may come with them.
pub(super) fn fetch(wanted: &Wanted, tie: Tie, pit: &str, singles: &[Single]) -> String {
    let ids: Vec<&str> = singles.iter().map(|single| single.id.as_str()).collect();
    let mut indices: Vec<&str> = singles.iter().map(|single| single.index.as_str()).collect();
    indices.sort_unstable();
    indices.dedup();
    let size = (singles.len() * indices.len()).min(PAGE_MAX);
    let (ids, indices) = (serde_json::Value::from(ids), serde_json::Value::from(indices));
    format!(
        "{{\"size\":{size},\"track_total_hits\":false,{},{},\"query\":{{\"bool\":{{\"filter\":[{{\"ids\":{{\"values\":{ids}}}}},{{\"terms\":{{\"_index\":{indices}}}}}]}}}}}}",
        point(pit),
        sort(wanted, tie),
    )
}

/// Body that counts documents by minutes.
pub(super) fn count(wanted: &Wanted, pit: &str, span: Span) -> String {
    format!(
        "{{\"size\":0,\"track_total_hits\":false,{},\"query\":{{\"bool\":{{\"filter\":[{}]}}}},\
         \"aggs\":{{\"minutes\":{{\"date_histogram\":{{\"field\":{},\"fixed_interval\":\"1m\",\"min_doc_count\":1}}}}}}}}",
        point(pit),
        range(wanted, span),
        json(&wanted.field),
    )
}

/// A time as the checkpoint says it: RFC 3339 in UTC, always of the same length, so that texts order as times do.
pub(super) fn cursor(at: Ms) -> String {
    let time = jiff::Timestamp::from_millisecond(at).unwrap_or(if at < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX });
    format!("{time:.3}")
}

/// Reads it back.
pub(super) fn cursor_ms(text: &str) -> Option<Ms> {
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests state what must hold")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wanted() -> Wanted {
        let query = Some(r#"{"exists":{"field":"event.category"}}"#.to_owned());
        Wanted { indices: vec!["a-*".into(), "b/c".into()], field: "@\"t".into(), query }
    }

    fn read(body: &str) -> Value {
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"))
    }

    #[test]
    fn each_body_is_json_and_says_what_is_wanted() {
        let span = Span { from: 1000, until: 2000 };
        let mut search = Search { pit: "p\"".into(), span, after: None, size: 7, is_bare: false };
        let body = read(&page(&wanted(), Tie::SeqNo, &search));
        assert_eq!(body["pit"]["id"], "p\"");
        assert_eq!(
            (&body["size"], &body["track_total_hits"], body.get("search_after"), body.get("_source")),
            (&json!(7), &json!(false), None, None)
        );
        assert_eq!(body["sort"][0]["@\"t"]["order"], "asc");
        assert_eq!(body["sort"][1]["_seq_no"]["order"], "asc");
        let filter = &body["query"]["bool"]["filter"];
        assert_eq!(filter[0]["range"]["@\"t"], json!({"gte": 1000, "lt": 2000, "format": "epoch_millis"}));
        assert_eq!(filter[1]["exists"]["field"], "event.category");
        (search.after, search.is_bare) = (Some("[1.5,\"x\"]".into()), true);
        let body = read(&page(&wanted(), Tie::ShardDoc, &search));
        assert_eq!(
            (&body["search_after"], &body["_source"], &body["sort"][1]),
            (&json!([1.5, "x"]), &json!(false), &json!({"_shard_doc": "asc"}))
        );
        let single = |index: &str, id: &str| Single { index: index.into(), id: id.into(), name: 0, at: 0, is_late: false };
        let body = read(&fetch(&wanted(), Tie::SeqNo, "p", &[single("a-2", "x\"y"), single("a-1", "z"), single("a-2", "z")]));
        let filter = json!([{"ids": {"values": ["x\"y", "z", "z"]}}, {"terms": {"_index": ["a-1", "a-2"]}}]);
        assert_eq!((&body["query"]["bool"]["filter"], &body["size"]), (&filter, &json!(6)));
        let body = read(&count(&wanted(), "p", span));
        assert_eq!(body["aggs"]["minutes"]["date_histogram"]["field"], "@\"t");
    }

    #[test]
    fn each_flavour_has_its_words() {
        assert_eq!(open(Flavour::OpenSearch, &wanted()), "/a-*,b%2Fc/_search/point_in_time?keep_alive=2m&allow_partial_pit_creation=false");
        assert_eq!(open(Flavour::Elasticsearch, &wanted()), "/a-*,b%2Fc/_pit?keep_alive=2m");
        let (path, body) = close(Flavour::OpenSearch, "p");
        assert_eq!((path, read(&body)), ("/_search/point_in_time", json!({"pit_id": ["p"]})));
        let (path, body) = close(Flavour::Elasticsearch, "p");
        assert_eq!((path, read(&body)), ("/_pit", json!({"id": "p"})));
    }

    #[test]
    fn cursors_order_as_times_do() {
        let times = [-1, 0, 999, 1_764_500_000_123, 253_402_207_200_000];
        for two in times.windows(2) {
            assert!(cursor(two[0]) < cursor(two[1]), "{two:?}");
        }
        for at in times {
            assert_eq!(cursor_ms(&cursor(at)), Some(at));
        }
        assert_eq!(cursor(Ms::MAX).len(), cursor(0).len());
        assert_eq!(cursor(1_773_469_512_004), "2026-03-14T06:25:12.004Z");
    }
}
