//! Filters against a list that is looked through.

use proptest::prelude::*;

use super::{super::*, Hand, S, alerts_of, identity, lease_one, matched, one, task};
use crate::{
    clock::Clock,
    scan::{outcome::Match, task::Zeek},
};

const RULES: &[&str] = &["Eicar_Exact", "eicar", "PE_Packed", "macro"];
const SPACES: &[&str] = &["own/a", "own/b"];
const TYPES: &[&str] = &["text/plain", "application/PDF", ""];
const UIDS: &[&str] = &["C1", "C2", ""];

#[derive(Clone, Debug)]
struct Made {
    rules: Vec<(usize, usize, u8)>,
    file_type: usize,
    uid: usize,
    sha256: u8,
    wait: u64,
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let rules = prop::collection::vec((0..RULES.len(), 0..SPACES.len(), 0..=10u8), 0..4);
    let one = (rules, 0..TYPES.len(), 0..UIDS.len(), 0..4u8, 0..5u64);
    prop::collection::vec(one.prop_map(|(rules, file_type, uid, sha256, wait)| Made { rules, file_type, uid, sha256, wait }), 1..25)
}

fn filter(start: Nanos) -> impl Strategy<Value = AlertFilter> {
    let text = |texts: &'static [&'static str]| prop::option::weighted(0.25, prop::sample::select(texts).prop_map(str::to_owned));
    let time = move || prop::option::weighted(0.25, (0..60u64).prop_map(move |s| start + s * S));
    let texts = (
        text(&["eicar", "EICAR", "e", "packed", "none", ""]),
        text(SPACES),
        text(&["PDF", "text", "/", "zip"]),
        text(UIDS),
        text(&["F1", "F2"]),
    );
    let numbers = (prop::option::weighted(0.2, 0..=10u8), prop::option::weighted(0.2, 0..=10u8), text(&["s0", "s1", "s9"]), time(), time());
    (texts, numbers).prop_map(|((rule_name, namespace, file_type, zeek_uid, fuid), (severity, severity_min, sha256, start, end))| {
        AlertFilter { severity, severity_min, rule_name, namespace, file_type, zeek_uid, fuid, sha256, task_id: None, start, end }
    })
}

/// Every question, one after the other.
fn is_wanted(filter: &AlertFilter, alert: &Alert) -> bool {
    let text = |name: &str| alert.alert[name].as_str().unwrap().to_owned();
    let is = |wanted: &Option<String>, name| wanted.as_ref().is_none_or(|wanted| !wanted.is_empty() && text(name) == *wanted);
    let has =
        |wanted: &Option<String>, name| wanted.as_ref().is_none_or(|wanted| text(name).to_lowercase().contains(&wanted.to_lowercase()));
    let severity = u8::try_from(alert.alert["severity"].as_u64().unwrap()).unwrap();
    filter.severity.is_none_or(|wanted| severity == wanted)
        && filter.severity_min.is_none_or(|least| severity >= least)
        && has(&filter.rule_name, "rule_name")
        && has(&filter.file_type, "file_type")
        && is(&filter.namespace, "rule_namespace")
        && is(&filter.zeek_uid, "zeek_uid")
        && is(&filter.fuid, "fuid")
        && is(&filter.sha256, "sha256")
        && filter.start.is_none_or(|start| alert.at >= start)
        && filter.end.is_none_or(|end| alert.at <= end)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_filter_finds_what_a_list_would(made in made(), filters in prop::collection::vec(filter(1_700_000_000 * S), 30), amend in 0..30u64) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Hand::new());
        let store = Tasks::open_at(dir.path(), Limits::default(), alerts_of(), std::sync::Arc::new(clock.clone())).unwrap();
        for (n, made) in made.iter().enumerate() {
            clock.turn(made.wait * S);
            let uid = UIDS[made.uid];
            let zeek = (!uid.is_empty()).then(|| Zeek { uid: uid.into(), fuid: uid.replace('C', "F"), ..Zeek::default() });
            one(&store, Submission { task: Task { zeek, ..task(&format!("f{n}"), 5) }, identity: Some(identity(1)) });
            let lease = lease_one(&store, "w1", Take::Started);
            let found = |(rule, space, severity): &(usize, usize, u8)| Match { rule: RULES[*rule].into(), namespace: SPACES[*space].into(), severity: *severity, ..matched(&lease, &["r"]).matches.remove(0) };
            let outcome = Outcome {
                matches: made.rules.iter().map(found).collect(),
                mime: TYPES[made.file_type].into(),
                sha256: format!("s{}", made.sha256),
                ..matched(&lease, &[])
            };
            let mut names: Vec<_> = made.rules.iter().map(|(rule, space, _)| (rule, space)).collect();
            names.sort();
            names.dedup();
            let Finished::Applied { alerts } = store.finish("w1", outcome).wait().unwrap() else { panic!() };
            prop_assert_eq!(alerts.len(), names.len(), "one of each rule");
        }
        let members = serde_json::json!({"zeek_uid": "C2", "severity": 10, "id": 99, "rule_name": "other"});
        store.amend_alert(amend, members.as_object().unwrap().clone()).wait().unwrap();
        let all = store.alerts_after(0, 1000).wait().unwrap();
        prop_assert!(all.iter().enumerate().all(|(n, alert)| alert.id == n as u64 + 1 && alert.alert["id"] == alert.id));
        if let Some(amended) = all.iter().find(|alert| alert.id == amend) {
            prop_assert_eq!(amended.alert["zeek_uid"].as_str(), Some("C2"));
            prop_assert!(amended.alert["rule_name"] != "other");
        }
        prop_assert_eq!(store.alerts_after(2, 2).wait().unwrap(), all.iter().skip(2).take(2).cloned().collect::<Vec<_>>());
        for filter in filters {
            let expected: Vec<_> = all.iter().rev().filter(|alert| is_wanted(&filter, alert)).cloned().collect();
            let mut found = Vec::new();
            for number in 1..=expected.len() as u64 / 3 + 2 {
                let page = store.alerts(filter.clone(), Page { number, size: 3 }).wait().unwrap();
                prop_assert_eq!(page.total, expected.len() as u64, "{:?}", &filter);
                found.extend(page.alerts);
            }
            prop_assert_eq!(&found, &expected, "{:?}", &filter);
        }
        let _ = clock.now();
    }
}
