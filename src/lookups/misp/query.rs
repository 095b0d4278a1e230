//! The bodies of what is sent to MISP. Pure.
//!
//! An unknown filter is ignored in silence by MISP, so that a slip here would widen every search:
//! each name is one of those that its search endpoint documents, and a test holds each body.

use serde_json::{Value, json};

use super::core::Ask;

/// Which attributes count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// Only those meant for detection.
    pub to_ids: bool,
    /// Only those of published events.
    pub published: bool,
    /// Leave out what hits a warninglist that is enabled there.
    pub warninglists: bool,
    /// Only these of MISP's types; empty means any.
    pub types: Vec<String>,
}

/// Types that may hold a network.
const NETWORK_TYPES: [&str; 2] = ["ip-src", "ip-dst"];
/// A name that nobody has: `.invalid` is reserved (RFC 6761 §6.4).
const CANARY: &str = "canary.shipper.invalid";

/// Which rows a synchronisation asks for; times are seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Everything that passes the filters.
    All,
    /// Everything that changed since, also what was deleted or does not pass the filters.
    Changed(u64),
    /// What changed since and passes the filters.
    Wanted(u64),
    /// What passes the filters, in events that were published since.
    Published(u64),
    /// What is in events that changed since and are not published.
    Unpublished(u64),
}

impl Filters {
    /// The types in which networks are looked for; empty if the filter leaves none.
    pub fn network_types(&self) -> Vec<&'static str> {
        NETWORK_TYPES.into_iter().filter(|kind| self.types.is_empty() || self.types.iter().any(|wanted| wanted == kind)).collect()
    }

    /// The body of one page of a search.
    ///
    /// - `page`: from 1.
    pub fn search(&self, ask: &Ask, page: u32, page_rows: u32) -> Vec<u8> {
        let mut body = self.filters(page, page_rows);
        match ask {
            // An OR list is the one form in which `!`, `&&` and `||` are plain text.
            Ask::Values(values) => body["value"] = json!({ "OR": values.iter().map(|value| &**value).collect::<Vec<_>>() }),
            Ask::Canary => body["value"] = json!({ "OR": [CANARY] }),
            Ask::Networks => {
                body["value"] = json!("%/%");
                body["type"] = json!(self.network_types());
            }
        }
        body.to_string().into_bytes()
    }

    /// The body of one page of a synchronisation.
    ///
    /// - `page`: from 1.
    pub fn export(&self, pass: Pass, page: u32, page_rows: u32) -> Vec<u8> {
        let mut body = match pass {
            Pass::All | Pass::Wanted(_) | Pass::Published(_) => self.filters(page, page_rows),
            Pass::Changed(_) | Pass::Unpublished(_) => self.unfiltered(page, page_rows),
        };
        match pass {
            Pass::All => {}
            Pass::Changed(since) => {
                body["attribute_timestamp"] = json!(since.to_string());
                body["deleted"] = json!([0, 1]);
            }
            Pass::Wanted(since) => body["attribute_timestamp"] = json!(since.to_string()),
            Pass::Published(since) => body["publish_timestamp"] = json!(since.to_string()),
            Pass::Unpublished(since) => {
                body["event_timestamp"] = json!(since.to_string());
                body["published"] = json!(0);
            }
        }
        body.to_string().into_bytes()
    }

    /// Only types and pages.
    fn unfiltered(&self, page: u32, page_rows: u32) -> Value {
        let mut body = json!({ "returnFormat": "json", "limit": page_rows, "page": page, "includeEventTags": 1 });
        if !self.types.is_empty() {
            body["type"] = json!(self.types);
        }
        body
    }

    fn filters(&self, page: u32, page_rows: u32) -> Value {
        let mut body = self.unfiltered(page, page_rows);
        for (name, is_on) in [("to_ids", self.to_ids), ("published", self.published), ("enforceWarninglist", self.warninglists)] {
            if is_on {
                body[name] = json!(1);
            }
        }
        body
    }
}

/// The body of a sighting of these values.
///
/// - `at`: seconds since 1970.
pub fn sighting(values: &[impl AsRef<str>], at: u64) -> Vec<u8> {
    let values: Vec<_> = values.iter().map(AsRef::as_ref).collect();
    json!({ "values": values, "timestamp": at, "type": "0", "source": "shipper" }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters() -> Filters {
        Filters { to_ids: true, published: true, warninglists: true, types: Vec::new() }
    }

    #[test]
    fn bodies_are_as_misp_documents_them() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let values = Ask::Values(vec!["!a&&b||c".into(), "1.2.3.4".into()]);
        let all = r#""enforceWarninglist":1,"includeEventTags":1,"limit":9,"page":2,"published":1,"returnFormat":"json","to_ids":1"#;
        assert_eq!(text(filters().search(&values, 2, 9)), format!(r#"{{{all},"value":{{"OR":["!a&&b||c","1.2.3.4"]}}}}"#));
        assert_eq!(text(filters().search(&Ask::Canary, 2, 9)), format!(r#"{{{all},"value":{{"OR":["canary.shipper.invalid"]}}}}"#));
        assert_eq!(text(filters().search(&Ask::Networks, 2, 9)), format!(r#"{{{all},"type":["ip-src","ip-dst"],"value":"%/%"}}"#));
        assert_eq!(text(filters().export(Pass::All, 2, 9)), format!("{{{all}}}"));
        let since = r#"{"attribute_timestamp":"1700000000","deleted":[0,1],"includeEventTags":1,"limit":9,"page":1,"returnFormat":"json"}"#;
        assert_eq!(text(filters().export(Pass::Changed(1_700_000_000), 1, 9)), since);
        let wanted = format!(r#"{{"attribute_timestamp":"17",{all}}}"#);
        assert_eq!(text(filters().export(Pass::Wanted(17), 2, 9)), wanted);
        let published = all.replace(r#""published":1"#, r#""publish_timestamp":"17","published":1"#);
        assert_eq!(text(filters().export(Pass::Published(17), 2, 9)), format!("{{{published}}}"));
        let unpublished = r#"{"event_timestamp":"17","includeEventTags":1,"limit":9,"page":2,"published":0,"returnFormat":"json"}"#;
        assert_eq!(text(filters().export(Pass::Unpublished(17), 2, 9)), unpublished);
        let none = Filters { to_ids: false, published: false, warninglists: false, types: vec!["md5".into(), "ip-dst".into()] };
        let types = r#"{"includeEventTags":1,"limit":9,"page":1,"returnFormat":"json","type":["md5","ip-dst"]}"#;
        assert_eq!(text(none.export(Pass::All, 1, 9)), types);
        assert_eq!(none.network_types(), ["ip-dst"]);
        let sighting = sighting(&["a", "b"], 7);
        assert_eq!(text(sighting), r#"{"source":"shipper","timestamp":7,"type":"0","values":["a","b"]}"#);
    }
}
