//! Each type of list as a table: entries, values, verdicts.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn file(list_type: &str, entries: &[&str], types: &[&str]) -> Vec<u8> {
    json!({"name": format!("a {list_type} list"), "version": 3, "description": "d", "type": list_type, "list": entries, "matching_attributes": types})
        .to_string()
        .into_bytes()
}

fn lists(list_type: &str, entries: &[&str]) -> Warninglists {
    let mut builder = Builder::new();
    builder.add("x", &file(list_type, entries, &["ALL"])).unwrap();
    builder.build().unwrap()
}

#[test]
fn each_type_matches_in_its_own_way() {
    type Case<'c> = (&'c str, &'c [&'c str], Kind, &'c [(&'c str, bool)]);
    let cases: &[Case<'_>] = &[
        (
            "hostname",
            &["google.com", ".Microsoft.com.", "*.cdn.net"],
            Kind::Domain,
            &[
                ("google.com", true),
                ("www.google.com", true),
                ("agoogle.com", false),
                ("com", false),
                ("update.microsoft.com", true),
                ("a.cdn.net", true),
            ],
        ),
        (
            "hostname",
            &["google.com"],
            Kind::Url,
            &[("https://mail.google.com:8443/x", true), ("https://evil.net/google.com", false), ("http://google.com@evil.net/", false)],
        ),
        ("hostname", &["google.com"], Kind::Email, &[("a@google.com", true), ("google.com@evil.net", false)]),
        ("hostname", &["google.com"], Kind::Ip, &[("8.8.8.8", false)]),
        ("string", &["/etc/passwd", "Word"], Kind::Unknown, &[("/etc/passwd", true), ("Word", true), ("word", false), ("Words", false)]),
        ("string", &["D41D8CD98F00B204E9800998ECF8427E"], Kind::Md5, &[("d41d8cd98f00b204e9800998ecf8427e", true)]),
        ("substring", &["akamai", "kama"], Kind::Domain, &[("x.akamaihd.net", true), ("kam.net", false), ("okama", true)]),
        (
            "cidr",
            &["8.8.8.0/24", "2001:4860::/32", "9.9.9.9"],
            Kind::Ip,
            &[
                ("8.8.8.8", true),
                ("8.8.9.8", false),
                ("2001:4860:4860::8888", true),
                ("9.9.9.9", true),
                ("::ffff:8.8.8.8", true),
                ("x", false),
            ],
        ),
        ("cidr", &["8.8.8.0/24"], Kind::Url, &[("https://8.8.8.8/dns-query", true), ("https://x/8.8.8.8", false)]),
        (
            "regex",
            &["/^https?:\\/\\/t\\.me\\//i", "^[a-z]{3}\\.de$"],
            Kind::Url,
            &[("HTTPS://T.me/x", true), ("https://t.me.evil/", false), ("abc.de", true), ("abcd.de", false)],
        ),
    ];
    for (list_type, entries, kind, values) in cases {
        let lists = lists(list_type, entries);
        for (value, expected) in *values {
            assert_eq!(!lists.check(*kind, value).is_empty(), *expected, "{list_type} {entries:?} {value}");
        }
    }
}

#[test]
fn a_list_is_asked_only_for_its_types() {
    let mut builder = Builder::new();
    builder.add("a", &file("string", &["v"], &["domain", "domain|ip"])).unwrap();
    builder.add("b", &file("string", &["v"], &["md5", "filename|md5"])).unwrap();
    builder.add("c", &file("string", &["v"], &["comment"])).unwrap();
    builder.add("d", &file("string", &["v"], &[])).unwrap();
    builder.add("e", &file("string", &["v"], &["ALL"])).unwrap();
    let lists = builder.build().unwrap();
    let of = |kind| {
        lists
            .check(kind, "v")
            .iter()
            .map(|found| lists.lists().iter().position(|list| std::ptr::eq(list, *found)).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(Kind::Domain), [0, 3, 4]);
    assert_eq!(of(Kind::Ip), [0, 3, 4]);
    assert_eq!(of(Kind::Md5), [1, 3, 4]);
    assert_eq!(of(Kind::Unknown), [0, 1, 3, 4]);
}

#[test]
fn a_match_means_what_the_file_or_its_name_says() {
    let category = |id: &str, category: Option<&str>| {
        let mut list: serde_json::Value = serde_json::from_slice(&file("string", &["v"], &[])).unwrap();
        if let Some(category) = category {
            list["category"] = category.into();
        }
        let mut builder = Builder::new();
        builder.add(id, list.to_string().as_bytes()).unwrap();
        builder.build().unwrap().lists()[0].category
    };
    for (id, said, expected) in [
        ("public-dns-v4", None, Category::FalsePositive),
        ("public-dns-v4", Some("known"), Category::Known),
        ("tranco", None, Category::Known),
        ("tranco10k", None, Category::FalsePositive),
        ("tranco", Some("false_positive"), Category::FalsePositive),
        ("vpn-ipv4", None, Category::Known),
        ("not-vpn-ipv4", None, Category::FalsePositive),
        ("shadowserver-scanning", None, Category::Known),
        ("url-shortener", None, Category::Known),
        ("tutorials", None, Category::FalsePositive),
    ] {
        assert_eq!(category(id, said), expected, "{id} {said:?}");
    }
    let mut builder = Builder::new();
    builder.add("tranco", &file("hostname", &["both.net", "popular.net"], &[])).unwrap();
    builder.add("x", &file("hostname", &["both.net"], &[])).unwrap();
    let lists = builder.build().unwrap();
    assert!(lists.is_harmless(Kind::Domain, "both.net") && !lists.is_harmless(Kind::Domain, "popular.net"));
    assert_eq!(lists.check(Kind::Domain, "a.both.net").len(), 2);
}

#[test]
fn what_cannot_be_used_is_told_and_the_rest_counts() {
    let mut builder = Builder::new();
    builder.add("a", &file("cidr", &["8.8.8.8", "8.8.8.8/40", "", "x"], &[])).unwrap();
    builder.add("b", &file("regex", &["/(?=x)y/", "/x(/", "/ok/"], &[])).unwrap();
    builder.add("c", &file("regex", &[&format!("/{}/", "(a{1,1000}){1,1000}")], &[])).unwrap();
    builder.add("d", &file("hostname", &["."], &[])).unwrap();
    let why: Vec<&str> = builder.unusable().iter().map(|unusable| unusable.why).collect();
    let regex = "it is no regex that can be searched in linear time (look-around and back references cannot)";
    assert_eq!(why, ["it is no network", "it is empty", "it is no network", regex, regex, regex, "it is no name"]);
    let error = builder.add("e", b"[]").unwrap_err().to_string();
    assert!(error.starts_with("warninglist e is not in MISP's form;"), "{error}");
    let error = builder.add("f", &file("fuzzy", &[], &[])).unwrap_err().to_string();
    assert_eq!(error, "warninglist f has type \"fuzzy\"; known: cidr, hostname, string, substring, regex");
    let lists = builder.build().unwrap();
    assert_eq!(lists.lists().iter().map(|list| list.entries).collect::<Vec<_>>(), [1, 1, 0, 0]);
    assert!(lists.is_harmless(Kind::Unknown, "it is ok"));
}

/// The slow twin: every entry of every list, one after another.
fn naive(all: &[(&str, Vec<String>)], kind: Kind, value: &str) -> Vec<usize> {
    let holds = |list_type: &str, entry: &str| match list_type {
        "string" => entry == value,
        "substring" => value.contains(entry),
        _ => {
            let name = if kind == Kind::Url { host(value).unwrap_or_default() } else { value };
            name == entry || name.ends_with(&format!(".{entry}"))
        }
    };
    (0..all.len()).filter(|index| all[*index].1.iter().any(|entry| holds(all[*index].0, entry))).collect()
}

proptest! {
    #[test]
    fn all_lists_at_once_agree_with_one_entry_after_another(
        given in proptest::collection::vec((prop_oneof![Just("string"), Just("substring"), Just("hostname")], proptest::collection::vec("[ab]{1,2}(\\.[ab]){0,2}", 0..6)), 0..6),
        values in proptest::collection::vec("[ab]{1,2}(\\.[ab]{1,2}){0,3}", 1..12),
    ) {
        let mut builder = Builder::new();
        for (list_type, entries) in &given {
            builder.add("x", &file(list_type, &entries.iter().map(String::as_str).collect::<Vec<_>>(), &["ALL"])).unwrap();
        }
        let lists = builder.build().unwrap();
        for value in &values {
            for (kind, value) in [(Kind::Domain, value.clone()), (Kind::Url, format!("http://{value}/"))] {
                let found: Vec<usize> = lists.check(kind, &value).iter().map(|found| lists.lists().iter().position(|list| std::ptr::eq(list, *found)).unwrap()).collect();
                prop_assert_eq!(found, naive(&given, kind, &value), "{}", value);
            }
        }
    }

    #[test]
    fn arbitrary_values_never_panic(value in any::<String>(), bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut builder = Builder::new();
        builder.add_built_in().unwrap();
        prop_assert!(builder.add("x", &bytes).is_err());
        let lists = builder.build().unwrap();
        for kind in Kind::ALL {
            let _ = lists.check(kind, &value);
        }
    }
}
