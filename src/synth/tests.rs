//! What is generated: shapes, shares, lengths, and the writer's files.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

const NOW: Nanos = 1_773_465_912_004_000_000;
/// Ids that `dfn` selects.
const SELECTED: &[&str] = &["1100", "1102", "3697", "4625", "4672", "4697", "4698", "4702", "4719", "4720", "4724", "4794", "4964"];

fn lines(seed: u64, mix: Mix, n: usize) -> Vec<(Class, Vec<u8>)> {
    let mut synth = Synth::new(seed, mix);
    (0..n as u64)
        .map(|n| {
            let mut line = Vec::new();
            let class = synth.alert(&mut line, NOW + n * 2_000_000, 60);
            (class, line)
        })
        .collect()
}

fn parse(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)))
}

#[test]
fn every_kind_is_one_line_of_json_in_the_managers_key_order() {
    // All kinds, however rare: each is filled on its own.
    for kind in kinds::all() {
        let template = Template::parse(&kind.line(), kinds::FRAGMENTS);
        let moment = Moment::new(NOW, 60);
        for seed in 0..50 {
            let cast = Cast {
                seed: mix(seed),
                moment: &moment,
                agent: br#""id":"001","name":"a""#,
                host: b"a",
                manager: b"m",
                ordinal: seed,
                fired: 1,
            };
            let mut line = Vec::new();
            template.fill(&cast, &mut line);
            assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1), "{kind:?}");
            let text = std::str::from_utf8(&line).unwrap();
            assert!(!text.contains("<<"), "{text}");
            let alert = parse(&line);
            for key in ["timestamp", "rule", "agent", "manager", "id", "decoder", "location"] {
                assert!(alert.get(key).is_some(), "{key}: {text}");
            }
            assert_eq!(ordinal_of(&line), Some(seed), "{text}");
            if let Some(data) = alert.get("data") {
                assert!(only_text(data), "scalars in data are text: {data}");
            }
        }
    }
}

/// True if every scalar outside an array is a string, as the manager writes `data`.
fn only_text(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.values().all(only_text),
        Value::String(_) | Value::Array(_) => true,
        _ => false,
    }
}

#[test]
fn the_same_seed_makes_the_same_bytes() {
    let bytes = |seed| lines(seed, Mix::Natural, 300).into_iter().flat_map(|(_, line)| line).collect::<Vec<u8>>();
    assert_eq!(bytes(5), bytes(5));
    assert_ne!(bytes(5), bytes(6));
}

#[test]
fn each_mix_makes_what_it_says() {
    for (name, mix) in Mix::ALL {
        for (class, line) in lines(9, mix, 2000) {
            let alert = parse(&line);
            let event = alert["data"]["win"]["system"]["eventID"].as_str();
            let banned = alert["data"]["program_name"] == "fail2ban.actions"
                && alert["rule"]["groups"].as_array().is_some_and(|groups| groups.iter().any(|group| group == "fail2ban"))
                && alert["data"]["srcip"].as_str().is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok());
            let expected = match event {
                Some(id) if SELECTED.contains(&id) => Class::WindowsSelected,
                Some(_) => Class::WindowsOther,
                None if banned => Class::Ban,
                None => Class::Other,
            };
            assert_eq!(class, expected, "{name}: {alert}");
            assert!(mix.takes(class), "{name}: {alert}");
        }
    }
}

#[test]
fn numbers_run_without_a_gap() {
    for (n, (_, line)) in lines(1, Mix::Natural, 3000).iter().enumerate() {
        assert_eq!(ordinal_of(line), Some(n as u64));
    }
}

#[test]
fn lengths_and_shares_are_those_of_real_sites() {
    let made = lines(3, Mix::Natural, 40_000);
    let mut lengths: Vec<_> = made.iter().map(|(_, line)| line.len()).collect();
    lengths.sort_unstable();
    let quantile = |per_mille: usize| lengths[(lengths.len() - 1) * per_mille / 1000];
    // Real: p50 1444, p90 3186, p99 4362, least 463, greatest 17,236.
    assert!((1150..=1700).contains(&quantile(500)), "p50 {}", quantile(500));
    assert!((2000..=3400).contains(&quantile(900)), "p90 {}", quantile(900));
    assert!((3600..=5600).contains(&quantile(990)), "p99 {}", quantile(990));
    assert!(lengths[0] >= 400 && lengths[lengths.len() - 1] <= 17_300, "{} to {}", lengths[0], lengths[lengths.len() - 1]);
    let mean = lengths.iter().sum::<usize>() / lengths.len();
    assert!(mean.abs_diff(ALERT_BYTES_MEAN) < 100, "mean {mean}");

    let mut shares = BTreeMap::new();
    for (class, _) in &made {
        *shares.entry(*class).or_insert(0) += 1000;
    }
    let share = |class| shares[&class] / made.len();
    assert!((20..=60).contains(&share(Class::Ban)), "{shares:?}");
    assert!((30..=80).contains(&share(Class::WindowsSelected)), "{shares:?}");
    assert!((300..=450).contains(&share(Class::WindowsOther)), "{shares:?}");
    let beyond_ascii = made.iter().filter(|(_, line)| !line.is_ascii()).count() * 1000 / made.len();
    assert!((200..=420).contains(&beyond_ascii), "{beyond_ascii} in a thousand are not ASCII");
}

#[test]
fn a_line_without_our_id_has_no_number() {
    for line in [&b""[..], b"{}", br#"{"a":{},"id":"12"}"#, br#"{"a":{},"id":"12.x"}"#, br#"{"a":{},"id":"12."#] {
        assert_eq!(ordinal_of(line), None);
    }
}
