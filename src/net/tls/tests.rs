//! The table of certificates, each made here and looked at: what is taken, with its facts, and
//! what is refused, with words and remedy.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "tests")]

use openssl::symm::Cipher;

use super::{
    Files, Finding, Pem, Report, chain_with_intermediates, look,
    made::{Key, NOW, Order, ca, ec, ed25519, leaf, make, rsa},
};
use crate::net::kafka::settings::PasswordIn;

fn pem(setting: &'static str, bytes: impl Into<Vec<u8>>) -> Pem {
    Pem { setting, path: format!("/etc/{}.pem", &setting[4..]).into(), bytes: Ok(bytes.into()) }
}

fn files(ca: impl Into<Vec<u8>>, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Files {
    Files { ca: Some(pem("tls.ca", ca)), own: Some((pem("tls.cert", cert), pem("tls.key", key))), password: None }
}

fn now() -> u64 {
    u64::try_from(NOW).unwrap() * 1_000_000_000
}

fn texts(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{finding:?}\n")).collect()
}

/// Taken, with every part among the facts.
#[track_caller]
fn check_good(files: &Files, parts: &[&str]) -> Report {
    let report = look(files, now());
    let texts = texts(&report);
    assert_eq!(report.refusal(), None);
    assert!(!report.findings.iter().any(|f| matches!(f, Finding::Warning(_))), "{texts}");
    parts.iter().for_each(|part| assert!(texts.contains(part), "{part:?} is not in\n{texts}"));
    report
}

/// Refused in one finding that holds every part, with a remedy.
#[track_caller]
fn check_refused(files: &Files, parts: &[&str]) {
    let report = look(files, now());
    let refused: Vec<_> = report.findings.iter().filter(|f| matches!(f, Finding::Refused(_))).collect();
    let [Finding::Refused(text)] = refused[..] else { panic!("not one refusal:\n{}", texts(&report)) };
    assert!(text.contains("; "), "no remedy in {text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is not in {text}"));
}

#[test]
fn a_good_pair_of_each_kind_of_key_is_taken_with_its_facts() {
    for (key, kind) in [(rsa as fn() -> Key, "RSA 2048"), (ec, "EC P-256"), (ed25519, "Ed25519")] {
        let root = make(&ca("root"), key(), None);
        let own = make(&leaf("cust-1"), key(), Some(&root));
        let report = check_good(
            &files(root.pem(), own.pem(), own.key_pem()),
            &[
                "tls.cert /etc/cert.pem: \\\"O=shipper test, CN=cust-1\\\", serial 4A11, issuer \\\"O=shipper test, CN=root\\\"",
                "valid until 2027-03-04 12:00:00 UTC (100 days left), SHA-256 ",
                &format!("tls.key /etc/key.pem: {kind}, fits the certificate"),
                "chain: \\\"O=shipper test, CN=cust-1\\\" (tls.cert /etc/cert.pem), signed by \\\"O=shipper test, CN=root\\\" (tls.ca /etc/ca.pem)",
            ],
        );
        assert_eq!(report.common_name.as_deref(), Some("cust-1"));
        assert_eq!(report.ends, Some(now() + 100 * 86_400 * 1_000_000_000));
    }
}

#[test]
fn an_intermediate_may_stand_in_either_file_and_in_any_order() {
    let root = make(&ca("root"), ec(), None);
    let middle = make(&ca("middle"), ec(), Some(&root));
    let own = make(&leaf("cust-1"), ec(), Some(&middle));
    let both = [&["CN=middle", "CN=root"][..], &["chain: "]].concat();
    check_good(&files(root.pem(), [own.pem(), middle.pem()].concat(), own.key_pem()), &both);
    check_good(&files([root.pem(), middle.pem()].concat(), own.pem(), own.key_pem()), &both);
    check_good(&files([middle.pem(), root.pem()].concat(), own.pem(), own.key_pem()), &both);
    check_refused(
        &files(root.pem(), own.pem(), own.key_pem()),
        &["tls.cert /etc/cert.pem", "CN=middle", "not in tls.ca", "append the intermediate"],
    );
    check_refused(&files(middle.pem(), own.pem(), own.key_pem()), &["tls.ca /etc/ca.pem", "holds no root", "add the root"]);
}

#[test]
fn intermediates_of_the_ca_file_are_shown_with_the_certificate() {
    let root = make(&ca("root"), ec(), None);
    let upper = make(&ca("upper"), ec(), Some(&root));
    let lower = make(&ca("lower"), ec(), Some(&upper));
    let own = make(&leaf("cust-1"), ec(), Some(&lower));
    let elsewhere = make(&ca("elsewhere"), ec(), None);
    let key = own.key_pem();
    let all = [root.pem(), lower.pem(), elsewhere.pem(), upper.pem()].concat();
    let shown = |files: &Files| chain_with_intermediates(files).map(String::into_bytes);
    let whole = [own.pem(), lower.pem(), upper.pem()].concat();
    assert_eq!(shown(&files(all.clone(), own.pem(), key.clone())), Some(whole.clone()));
    assert_eq!(shown(&files([root.pem(), upper.pem()].concat(), [own.pem(), lower.pem()].concat(), key.clone())), Some(whole.clone()));
    assert_eq!(shown(&files(root.pem(), whole, key.clone())), None, "tls.cert has all");
    assert_eq!(shown(&files(elsewhere.pem(), own.pem(), key.clone())), None, "no chain");
    check_good(&files(all, own.pem(), key.clone()), &["CN=lower", "CN=upper", "CN=root\\\" (tls.ca"]);
    // Its own issuer is not there, and need not be.
    check_good(&files([elsewhere.pem(), lower.pem()].concat(), own.pem(), key), &["signed by \\\"O=shipper test, CN=lower\\\" (tls.ca"]);
}

#[test]
fn one_that_is_not_valid_now_is_refused_with_its_dates() {
    let root = make(&ca("root"), ec(), None);
    for (order, parts) in [
        (Order { from: -100, to: -3, ..leaf("old") }, ["tls.cert", "CN=old", "expired", "ended on 2026-11-21 12:00:00 UTC (3 days ago)"]),
        (Order { from: 2, to: 100, ..leaf("new") }, ["tls.cert", "CN=new", "not valid before 2026-11-26 12:00:00 UTC", "clock"]),
    ] {
        let own = make(&order, ec(), Some(&root));
        check_refused(&files(root.pem(), own.pem(), own.key_pem()), &parts);
    }
    let middle = make(&Order { from: -100, to: -1, ..ca("middle") }, ec(), Some(&root));
    let own = make(&leaf("cust-1"), ec(), Some(&middle));
    let files = files(root.pem(), [own.pem(), middle.pem()].concat(), own.key_pem());
    check_refused(&files, &["tls.cert", "CN=middle", "expired", "2026-11-23"]);
}

#[test]
fn of_a_renewed_ca_the_valid_certificate_counts() {
    let old = make(&Order { from: -100, to: -1, ..ca("root") }, ec(), None);
    let new = make(&ca("root"), old.key.clone(), None);
    let own = make(&leaf("cust-1"), ec(), Some(&new));
    let report = look(&files([old.pem(), new.pem()].concat(), own.pem(), own.key_pem()), now());
    assert_eq!(report.refusal(), None);
    let warned = report.findings.iter().filter(|f| matches!(f, Finding::Warning(text) if text.contains("expired"))).count();
    assert_eq!(warned, 1, "{}", texts(&report));
}

#[test]
fn one_that_ends_soon_is_taken_with_a_warning() {
    let root = make(&ca("root"), ec(), None);
    let own = make(&Order { to: 12, ..leaf("cust-1") }, ec(), Some(&root));
    let report = look(&files(root.pem(), own.pem(), own.key_pem()), now());
    assert_eq!(report.refusal(), None);
    assert!(
        texts(&report)
            .contains("Warning(\"tls.cert /etc/cert.pem: \\\"O=shipper test, CN=cust-1\\\" ends on 2026-12-06 12:00:00 UTC (12 days left)"),
        "{}",
        texts(&report)
    );
}

#[test]
fn a_key_of_another_certificate_is_refused_with_both_fingerprints() {
    let root = make(&ca("root"), rsa(), None);
    let own = make(&leaf("cust-1"), rsa(), Some(&root));
    check_refused(
        &files(root.pem(), own.pem(), rsa().private_key_to_pem_pkcs8().unwrap()),
        &["tls.key /etc/key.pem", "not the key of tls.cert", "SHA-256"],
    );
    check_refused(
        &files(root.pem(), own.pem(), ec().private_key_to_pem_pkcs8().unwrap()),
        &["tls.key /etc/key.pem", "not the key of tls.cert"],
    );
}

#[test]
fn a_ca_that_did_not_sign_is_refused_by_name_or_by_key() {
    for ids in [true, false] {
        let root = make(&Order { ids, ..ca("root") }, ec(), None);
        let own = make(&Order { ids, ..leaf("cust-1") }, ec(), Some(&root));
        let wrong = make(&Order { ids, ..ca("elsewhere") }, ec(), None);
        check_refused(
            &files(wrong.pem(), own.pem(), own.key_pem()),
            &["CN=cust-1", "signed by \"O=shipper test, CN=root\"", "not in tls.ca", "CN=elsewhere", "SHA-256"],
        );
        let namesake = make(&Order { ids, ..ca("root") }, ec(), None);
        check_refused(
            &files(namesake.pem(), own.pem(), own.key_pem()),
            &["was not signed by", "CN=root", "tls.ca /etc/ca.pem", "another key"],
        );
    }
    let own = make(&leaf("lonely"), ec(), None);
    let root = make(&ca("root"), ec(), None);
    check_refused(&files(root.pem(), own.pem(), own.key_pem()), &["CN=lonely", "signed itself"]);
}

#[test]
fn a_ca_that_may_not_sign_is_refused() {
    for (order, part) in [
        (Order { ca: false, ..ca("root") }, "basicConstraints"),
        (Order { ca: false, signs: false, ..ca("root") }, "may not sign"),
        (Order { signs: false, ..ca("root") }, "keyCertSign"),
    ] {
        let root = make(&order, ec(), None);
        let own = make(&leaf("cust-1"), ec(), Some(&root));
        check_refused(&files(root.pem(), own.pem(), own.key_pem()), &["tls.ca /etc/ca.pem", "CN=root", "may not sign", part]);
        // Alone it is an anchor for itself only.
        let report = look(&Files { ca: Some(pem("tls.ca", root.pem())), ..Files::default() }, now());
        assert!(
            texts(&report).contains("Warning(\"tls.ca /etc/ca.pem: \\\"O=shipper test, CN=root\\\" may not sign"),
            "{}",
            texts(&report)
        );
    }
}

#[test]
fn a_certificate_for_servers_only_is_refused() {
    let root = make(&ca("root"), ec(), None);
    let own = make(&Order { server_only: true, ..leaf("cust-1") }, ec(), Some(&root));
    check_refused(&files(root.pem(), own.pem(), own.key_pem()), &["tls.cert", "clientAuth"]);
}

#[test]
fn an_encrypted_key_wants_its_password_and_only_that() {
    let root = make(&ca("root"), ec(), None);
    for key in [rsa(), ec()] {
        let own = make(&leaf("cust-1"), key, Some(&root));
        let locked = own.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"open sesame").unwrap();
        let with = |password: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), password).unwrap();
            Some(PasswordIn::File(file.path().to_owned()).read())
        };
        let base = files(root.pem(), own.pem(), locked);
        check_good(&Files { password: with("open sesame\n"), ..base.clone() }, &["fits the certificate"]);
        check_refused(&base, &["tls.key /etc/key.pem", "is encrypted", "tls.key_password_file"]);
        check_refused(&Files { password: with("guess"), ..base.clone() }, &["tls.key /etc/key.pem", "does not open it"]);
        check_refused(&Files { password: with(&"x".repeat(5000)), ..base.clone() }, &["does not open it"]);
        check_refused(&Files { password: with(""), ..base.clone() }, &["tls.key_password_file", "is empty"]);
        let told = texts(&look(&Files { password: with("guess"), ..base }, now()));
        assert!(!told.contains("guess"), "{told}");
        let open = Files { password: with("open sesame"), ..files(root.pem(), own.pem(), own.key_pem()) };
        assert!(texts(&look(&open, now())).contains("Warning(\"tls.key /etc/key.pem: is not encrypted"));
    }
}

#[test]
fn a_file_that_is_missing_or_holds_something_else_is_named_with_its_setting() {
    let root = make(&ca("root"), ec(), None);
    let own = make(&leaf("cust-1"), ec(), Some(&root));
    let good = || files(root.pem(), own.pem(), own.key_pem());
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    type Row = (&'static str, Result<Vec<u8>, String>, &'static [&'static str]);
    let rows: [Row; 11] = [
        ("tls.ca", Err("No such file or directory".into()), &["cannot be read: No such file", "correct the setting"]),
        ("tls.cert", Err("Permission denied".into()), &["cannot be read: Permission denied", "readable for the agent's user"]),
        ("tls.key", Err("No such file or directory".into()), &["cannot be read: No such file"]),
        ("tls.ca", Ok(vec![]), &["is not PEM"]),
        ("tls.ca", Ok(root.key_pem()), &["holds no certificate"]),
        ("tls.cert", Ok(own.certificate.to_der().unwrap()), &["is DER", "openssl x509"]),
        ("tls.cert", Ok(own.key_pem()), &["holds no certificate"]),
        ("tls.cert", Ok(cut(own.pem())), &["cannot be read as PEM", "damaged"]),
        ("tls.key", Ok(own.pem()), &["holds no private key"]),
        ("tls.key", Ok(cut(own.key_pem())), &["damaged"]),
        ("tls.key", Ok(b"\0\xff hello".to_vec()), &["holds no private key"]),
    ];
    for (setting, bytes, parts) in rows {
        let mut files = good();
        let damaged = Pem { bytes, ..pem(setting, "") };
        match (setting, &mut files.own) {
            ("tls.cert", Some((cert, _))) => *cert = damaged,
            ("tls.key", Some((_, key))) => *key = damaged,
            _ => files.ca = Some(damaged),
        }
        let path = format!("{setting} /etc/{}.pem: ", &setting[4..]);
        check_refused(&files, &[&[path.as_str()], parts].concat());
    }
}

#[test]
fn several_faults_are_told_at_once() {
    let root = make(&ca("root"), ec(), None);
    let own = make(&Order { to: -1, ..leaf("cust-1") }, ec(), Some(&root));
    let other = make(&ca("elsewhere"), ec(), None);
    let refusal = look(&files(other.pem(), own.pem(), other.key_pem()), now()).refusal().unwrap();
    for part in ["expired", "not the key of", "not in tls.ca"] {
        assert!(refusal.contains(part), "{part:?} is not in {refusal}");
    }
}

#[test]
fn a_name_is_told_on_one_line() {
    let root = make(&ca("ro\not"), ec(), None);
    let told = look(&Files { ca: Some(pem("tls.ca", root.pem())), ..Files::default() }, now());
    assert!(told.findings.iter().all(|f| matches!(f, Finding::Good(text) if !text.contains('\n'))), "{}", texts(&told));
}
