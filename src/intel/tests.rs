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
