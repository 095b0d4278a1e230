//! What is found in a text, and what looking costs.

use super::*;

#[test]
fn a_single_value_has_one_normal_form() {
    let cases = [
        (IocType::Ip, " 45.155.205.233 ", Some("45.155.205.233")),
        (IocType::Ip, "::ffff:2d9b:cde9", Some("45.155.205.233")),
        (IocType::Ip, "[2A0E:b107:1f0:0:0::5]:443", Some("2a0e:b107:1f0::5")),
        (IocType::Ip, "fe80::1%eth0", Some("fe80::1")),
        (IocType::Ip, "2a0e::/32", Some("2a0e::")),
        (IocType::Ip, "1.2.3.4:80", Some("1.2.3.4")),
        (IocType::Ip, "010.1.1.1", None),
        (IocType::Domain, "*.Evil.TOP.", Some("evil.top")),
        (IocType::Domain, "müller-bank.de", Some("xn--mller-bank-9db.de")),
        (IocType::Domain, "evil..top", None),
        (IocType::Domain, "1.2.3.4", None),
        (IocType::Url, "HXXP://Evil.TOP:80/Path?Q", Some("http://evil.top:80/Path?Q")),
        (IocType::Url, "http://[::FFFF:1.2.3.4]/", Some("http://1.2.3.4/")),
        (IocType::Url, "http://u@printer/", Some("http://u@printer/")),
        (IocType::Url, "evil.top/x", None),
        (IocType::Email, "No-Reply@Evil.top", Some("no-reply@evil.top")),
        (IocType::Md5, "D41D8CD98F00B204E9800998ECF8427E", Some("d41d8cd98f00b204e9800998ecf8427e")),
        (IocType::Sha1, "d41d8cd98f00b204e9800998ecf8427e", None),
    ];
    for (kind, value, expected) in cases {
        assert_eq!(normal(kind, value).as_deref(), expected, "{} {value}", kind.as_str());
    }
    for (n, kind) in IocType::ALL.into_iter().enumerate() {
        assert_eq!((kind as usize, IocType::of(kind.as_str())), (n, Some(kind)));
    }
}

fn extract(text: &str, keys: &[Key<'_>]) -> Extractor {
    let mut extractor = Extractor::new(Wanted::default());
    extractor.begin(true);
    extractor.text(text, &Place::new(keys));
    extractor
}

fn found(text: &str) -> String {
    let extractor = extract(text, &[Key::Name("full_log")]);
    extractor.found().iter().map(|ioc| format!("{}={}", ioc.kind.as_str(), ioc.value)).collect::<Vec<_>>().join(" ")
}

/// Every way in which an indicator may be attacked: long runs of what the rules look at.
const RUNS: &[&str] = &[
    "🔥a.b",
    "\u{200b}a.top",
    "1.",
    "1.1.1.1.",
    "a.",
    "a@",
    "@",
    "a@b.top@",
    "://",
    "http://",
    "http://a/",
    "http://10.0.0.1/",
    "http://1.1.1.1/+http://",
    "1:",
    ":",
    "::",
    "2001:",
    "x2001:db8::",
    "%3a%2f%2f",
    "http%3a%2f%2fa",
    "[.]",
    "[",
    "[.",
    ".]",
    "\\/",
    "\\u003c",
    "-",
    ".",
    "f",
    "0f",
    "(",
    ")",
    "http://a,",
    "%41",
    "%",
    "é",
    "é.",
    "\u{200b}",
    "a.top\\",
    "com.",
    "_",
    "'",
    "a1=",
    "-enc AAAA",
    "key=\"",
    "http://a.top/))))",
    "http://[",
    "//a.top",
];

#[test]
fn twice_the_text_is_at_most_twice_the_steps() {
    for run in RUNS {
        for (prefix, tail) in [("", ""), ("x ", " 45.155.205.233"), ("http://", ""), ("http://10.0.0.1/", "")] {
            let steps = |len: usize| {
                let text = format!("{prefix}{}{tail}", run.repeat(len / run.len()));
                extract(&text, &[Key::Name("full_log")]).steps()
            };
            let (short, long) = (steps(32 << 10), steps(64 << 10));
            assert!(long <= 2 * short + 4096, "{prefix}{run}: {short} steps, then {long}");
            assert!(steps(1 << 20) <= 33 * short + 4096, "{prefix}{run}: a MiB is no more than 32 times as much");
            // The sum: two passes, and for each short word its neighbourhood twice.
            assert!(long <= 400 * (64 << 10), "{prefix}{run}: {long} steps");
        }
    }
}

#[test]
fn an_indicator_behind_a_long_run_is_found() {
    for run in RUNS {
        let text = format!("{} 45.155.205.233", run.repeat((64 << 10) / run.len()));
        let extractor = extract(&text, &[Key::Name("full_log")]);
        assert!(extractor.found().iter().any(|ioc| ioc.value == "45.155.205.233"), "{run}");
    }
}

#[test]
fn what_is_past_a_limit_is_counted() {
    let mut extractor = Extractor::new(Wanted { iocs_max: 2, bytes_max: 40, ..Wanted::default() });
    extractor.begin(false);
    let keys = [Key::Name("a")];
    extractor.text("5.1.1.1 5.1.1.2 5.1.1.3 5.1.1.1 ", &Place::new(&keys));
    extractor.text("é5.1.1.4 and more", &Place::new(&keys));
    assert_eq!(extractor.found().iter().map(|ioc| ioc.value.as_str()).collect::<Vec<_>>(), ["5.1.1.1", "5.1.1.2"]);
    assert_eq!((extractor.beyond(), extractor.unread()), (1, 10), "8 bytes of the second text fitted");
    extractor.begin(false);
    assert_eq!((extractor.beyond(), extractor.unread(), extractor.found().len()), (0, 0, 0));
}

#[test]
fn texts_give_what_they_name() {
    let cases = [
        ("a\\n45.155.205.233\\tb", "ip=45.155.205.233"),
        ("u=%3D45.155.205.233%20 x=%2Fetc%2Fevil.top y%3Devil.top", "ip=45.155.205.233 domain=evil.top"),
        ("inside/45.155.205.233(443) client1/185.220.101.34:1194 Chrome/124.1.2.3", "ip=45.155.205.233 ip=185.220.101.34"),
        ("2a0e:b107::1%eth0 [2a0e:b107::2]:443 2a0e:b107:0::/48", "ip=2a0e:b107::1 ip=2a0e:b107::2 ip=2a0e:b107::"),
        ("::1 fe80::1 2001:db8::1 00:16:3e:aa:bb:cc 09:01:02 std::f 2024:05:07", ""),
        ("gopher://evil.top:70/_x file://evil.top/x //evil.top", "domain=evil.top"),
        ("http://10.0.0.1/go?u=http://evil.top/x", "url=http://evil.top/x domain=evil.top"),
        ("http://evil.top./X?a=[1] (http://a.top/x).", "url=http://evil.top/X?a=[1] domain=evil.top url=http://a.top/x domain=a.top"),
        (
            "http://[2A0E:b107::1]:80/x http://0x2d9bcde9/",
            "url=http://[2a0e:b107::1]:80/x ip=2a0e:b107::1 url=http://0x2d9bcde9/ ip=45.155.205.233",
        ),
        ("stratum+tcp://pool.evil.top:3333", "url=tcp://pool.evil.top:3333 domain=pool.evil.top"),
        ("wget%20http://a.top/x.sh%20-O /?link=http://b.top/", "url=http://a.top/x.sh domain=a.top url=http://b.top/ domain=b.top"),
        ("ref=\"http://a.top/\" \"permalink\":\"http://b.top\" \"UserId\":\"x@c.top\"", ""),
        ("\\\\evil.top\\share\\x and C:\\evil.top\\x and corp.top\\bob", "domain=evil.top"),
        ("user=jane.work for john.app from x; sudo: li.wang : TTY", ""),
        ("message-id=<1.2@evil.top> %3Cspam@evil.top+x", "domain=evil.top email=spam@evil.top"),
        ("\\u003cspam@evil.top\\u003e \"evil.name\": 1, os.name=x, done.It", "email=spam@evil.top domain=evil.top"),
        (".1.3.6.1 iso.3.6.1 oid 1.3.6.1 010.1.1.1 1.2.3.4.5 5.5.5.5-5.5.5.9", "ip=5.5.5.5 ip=5.5.5.9"),
        ("来evil.top evil\u{200b}update.top 来45.155.205.233", "domain=xn--evil-9r1i.top"),
        ("ffffffffffffffffffffffffffffffff 0xd8757fb4e9ea07606d23a1ef5a4b8d4e", ""),
        (
            "\"ja3\":{\"hash\":\"6407eab466f27556146fdaefcf768231\"} ja3s=6407eab466f27556146fdaefcf768232",
            "ja3=6407eab466f27556146fdaefcf768231 ja3=6407eab466f27556146fdaefcf768232",
        ),
        ("type:  5 edge7.bad-cdn.net;::ffff:91.240.118.172;", "domain=edge7.bad-cdn.net ip=91.240.118.172"),
        ("href=&quot;http://a.top/x&quot;&gt; %22http://b.top/y%22,", "url=http://a.top/x domain=a.top url=http://b.top/y domain=b.top"),
        (
            "http://a.top/d8757fb4e9ea07606d23a1ef5a4b8d4e.exe",
            "url=http://a.top/d8757fb4e9ea07606d23a1ef5a4b8d4e.exe md5=d8757fb4e9ea07606d23a1ef5a4b8d4e domain=a.top",
        ),
        ("rv:109.1.2.3 12.4.3.2~rc1 import java.io; config.inc IP 2a0e:b107::1.443 >", "ip=2a0e:b107::1"),
        (
            "http://a.top,http://b.top;http://c.top",
            "url=http://a.top domain=a.top url=http://b.top domain=b.top url=http://c.top domain=c.top",
        ),
        ("${jndi:${lower:l}${lower:d}ap://185.220.101.34:1389/x}", "ip=185.220.101.34"),
        (
            "H=(a.top) [45.155.205.233]:5 helo=b.top relay=c.top[185.220.101.34]:25",
            "domain=a.top ip=45.155.205.233 domain=b.top domain=c.top ip=185.220.101.34",
        ),
        ("<script src=//a.top/x.js> url('//b.top/y')", "domain=a.top domain=b.top"),
    ];
    for (text, expected) in cases {
        assert_eq!(found(text), expected, "{text}");
    }
}

/// Ways to write the same harmlessly.
fn defanged(text: &str, way: usize) -> String {
    match way {
        0 => text.replace('.', "[.]").replace("http", "hxxp"),
        1 => text.replace('.', "(dot)").replace("://", "[://]"),
        2 => text.replace('.', "{.}").replace('@', "[at]"),
        3 => text.replace('@', "(@)").replace("://", "[:]//").replace('.', "[DOT]"),
        _ => text.replace('/', "\\/").replace('.', "[."),
    }
}

#[test]
fn what_begins_like_a_package_is_a_host_only_where_one_is_wanted() {
    assert!(found("io.com.br").is_empty());
    assert!(!found("http://io.com.br/").is_empty());
}

mod props {
    use proptest::prelude::*;

    use super::*;

    fn indicator() -> impl Strategy<Value = String> {
        prop_oneof![
            (1_u8..=9, 0_u8.., 0_u8.., 0_u8..).prop_map(|(a, b, c, d)| format!("{a}.{b}.{c}.{d}")),
            "[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?\\.(top|xyz|ru|com\\.br)".prop_filter("code, by its first label", |name| {
                let first = name.split('.').next().unwrap_or_default();
                !name::PACKAGES.contains(&first) && !name::VARIABLES.contains(&first)
            }),
            "https?://[a-z]{1,8}\\.top(/[a-z0-9]{0,8})?",
            "[a-z]{1,8}@[a-z]{1,8}\\.xyz",
        ]
    }

    proptest! {
        #[test]
        fn any_text_is_taken_and_costs_little(text in "[a-f0-9.:/%@\\[\\]\\\\hxtp é\u{200b}-]{0,400}|\\PC{0,200}") {
            let extractor = extract(&text, &[Key::Name("x")]);
            prop_assert!(extractor.steps() <= 400 * text.len() as u64 + 1000);
            for ioc in extractor.found() {
                // What is found is in normal form, and finding it again gives the same.
                let again = normal(ioc.kind, &ioc.value);
                prop_assert_eq!(again.as_ref(), Some(&ioc.value), "{}", ioc.kind.as_str());
            }
        }

        #[test]
        fn what_was_defanged_is_found_as_if_it_was_not(text in indicator(), way in 0..5_usize) {
            prop_assert!(!found(&text).is_empty(), "{}", text);
            prop_assert_eq!(found(&defanged(&text, way)), found(&text), "{}", defanged(&text, way));
        }

        #[test]
        fn each_is_found_once_wherever_it_stands(text in indicator(), marks in "[ \"',;)<>\n\t]") {
            let once = found(&text);
            prop_assert_eq!(found(&format!("x {marks}{text}{marks} {marks}{text}{marks} y")), once);
        }
    }
}
