//! What people compare of a certificate: names, keys, dates, fingerprints, as text.

use std::fmt::Write as _;

use jiff::Timestamp;
use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    hash::{MessageDigest, hash},
    pkey::{HasPublic, Id, PKeyRef},
    x509::{X509NameRef, X509Ref},
};

use super::DAY;
use crate::clock::Nanos;

/// True if an extension forbids it to sign certificates.
pub(super) fn may_not_sign(certificate: &X509Ref) -> bool {
    // 32 is X509_V_ERR_KEYUSAGE_NO_CERTSIGN.
    certificate.issued(certificate).as_raw() == 32 || basic_constraints(certificate) == Some(false)
}

/// What basicConstraints says of being a CA; `None` where the extension is missing. Only OpenSSL's
/// text shows it through the safe interface.
pub(super) fn basic_constraints(certificate: &X509Ref) -> Option<bool> {
    let text = certificate.to_text().ok()?;
    let text = String::from_utf8_lossy(&text);
    let rest = text.split("X509v3 Basic Constraints:").nth(1)?;
    Some(rest.lines().nth(1)?.contains("CA:TRUE"))
}

/// Everything about a certificate that people compare.
pub(super) fn facts(certificate: &X509Ref, now: i64) -> String {
    let to = seconds(certificate.not_after());
    let mut text = format!("{}, serial {}, ", name(certificate.subject_name()), serial(certificate));
    if same(certificate.subject_name(), certificate.issuer_name()) {
        text.push_str("a root, ");
    } else {
        let _ = write!(text, "issuer {}, ", name(certificate.issuer_name()));
    }
    if let Ok(key) = certificate.public_key() {
        let _ = write!(text, "{}, ", kind(&key));
    }
    let _ = write!(text, "valid until {} ({} days left), SHA-256 {}", date(to), (to - now).div_euclid(DAY), fingerprint(certificate));
    text
}

fn serial(certificate: &X509Ref) -> String {
    certificate.serial_number().to_bn().and_then(|n| n.to_hex_str().map(|t| t.to_string())).unwrap_or_else(|_| "?".to_owned())
}

pub(super) fn fingerprint(certificate: &X509Ref) -> String {
    certificate.digest(MessageDigest::sha256()).map_or_else(|_| "?".to_owned(), |digest| hex(&digest))
}

pub(super) fn key_digest<T: HasPublic>(key: &PKeyRef<T>) -> String {
    key.public_key_to_der().and_then(|der| hash(MessageDigest::sha256(), &der)).map_or_else(|_| "?".to_owned(), |digest| hex(&digest))
}

/// As `openssl x509 -fingerprint` prints it.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

pub(super) fn kind<T: HasPublic>(key: &PKeyRef<T>) -> String {
    let bits = key.bits();
    match key.id() {
        Id::RSA | Id::RSA_PSS => format!("RSA {bits}"),
        Id::EC => {
            let curve = key.ec_key().ok().and_then(|ec| ec.group().curve_name()).and_then(|nid| nid.short_name().ok());
            format!("EC {}", curve.map_or_else(|| bits.to_string(), |c| c.replace("prime256v1", "P-256").replace("secp384r1", "P-384")))
        }
        Id::ED25519 => "Ed25519".to_owned(),
        Id::ED448 => "Ed448".to_owned(),
        _ => format!("a key of {bits} bits"),
    }
}

/// `"O=shipper test, CN=alice"`, in the certificate's order.
pub(super) fn name(of: &X509NameRef) -> String {
    let part = |entry: &openssl::x509::X509NameEntryRef| {
        let key = entry.object().nid().short_name().map_or_else(|_| entry.object().to_string(), str::to_owned);
        format!("{key}={}", entry.data().to_string().map_or_else(|_| "?".to_owned(), |text| clean(&text)))
    };
    format!("\"{}\"", of.entries().map(part).collect::<Vec<_>>().join(", "))
}

/// On one line.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect()
}

pub(super) fn same(one: &X509NameRef, other: &X509NameRef) -> bool {
    one.try_cmp(other).is_ok_and(|order| order.is_eq())
}

/// Seconds since 1970.
pub(super) fn seconds(time: &Asn1TimeRef) -> i64 {
    let since = Asn1Time::from_unix(0).and_then(|origin| origin.diff(time));
    since.map_or(0, |diff| i64::from(diff.days) * DAY + i64::from(diff.secs))
}

pub(super) fn nanos(seconds: i64) -> Nanos {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000)
}

/// `2026-11-24 15:20:00 UTC`.
pub(super) fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "a time beyond the calendar".to_owned(), |t| t.strftime("%F %T UTC").to_string())
}
