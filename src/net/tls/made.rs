//! Certificates of every kind, made for tests.

#![allow(clippy::unwrap_used, reason = "tests")]

use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{Id, PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Name,
        extension::{AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName, SubjectKeyIdentifier},
    },
};

const DAY: i64 = 86_400;
/// The time of orders that say no other: 2026-11-24 12:00:00 UTC, seconds.
pub(in crate::net) const NOW: i64 = 1_795_521_600;

pub(in crate::net) type Key = PKey<Private>;

pub(in crate::net) fn rsa() -> Key {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}
pub(in crate::net) fn ec() -> Key {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}
pub(in crate::net) fn ed25519() -> Key {
    PKey::generate_ed25519().unwrap()
}

/// What a certificate to be made is like.
#[derive(Clone)]
pub(in crate::net) struct Order {
    pub cn: &'static str,
    /// Days from now.
    pub from: i64,
    pub to: i64,
    /// basicConstraints.
    pub ca: bool,
    /// keyUsage with keyCertSign.
    pub signs: bool,
    /// An extended key usage for servers only.
    pub server_only: bool,
    /// Subject and authority key identifiers.
    pub ids: bool,
    /// Names and addresses of a server.
    pub names: &'static [&'static str],
    /// Seconds since 1970 from which its days count.
    pub now: i64,
}

pub(in crate::net) fn leaf(cn: &'static str) -> Order {
    Order { cn, from: -10, to: 100, ca: false, signs: false, server_only: false, ids: true, names: &[], now: NOW }
}
pub(in crate::net) fn ca(cn: &'static str) -> Order {
    Order { to: 3650, ca: true, signs: true, ..leaf(cn) }
}

/// A certificate and its key.
pub(in crate::net) struct Made {
    pub certificate: X509,
    pub key: Key,
}

impl Made {
    pub(in crate::net) fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }
    pub(in crate::net) fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().unwrap()
    }
    pub(in crate::net) fn der(&self) -> Vec<u8> {
        self.certificate.to_der().unwrap()
    }
    pub(in crate::net) fn key_der(&self) -> Vec<u8> {
        self.key.private_key_to_pkcs8().unwrap()
    }
}

pub(in crate::net) fn make(order: &Order, key: Key, by: Option<&Made>) -> Made {
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "shipper test").unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, order.cn).unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(0x4a11).unwrap()).unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(by.map_or(&*name, |by| by.certificate.subject_name())).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(order.now + order.from * DAY).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(order.now + order.to * DAY).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    let mut basic = BasicConstraints::new();
    if order.ca {
        basic.ca();
    }
    builder.append_extension(basic.critical().build().unwrap()).unwrap();
    let mut usage = KeyUsage::new();
    usage.critical().digital_signature();
    if order.signs {
        usage.key_cert_sign();
    }
    builder.append_extension(usage.build().unwrap()).unwrap();
    if order.server_only {
        builder.append_extension(ExtendedKeyUsage::new().server_auth().build().unwrap()).unwrap();
    }
    if !order.names.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in order.names {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => names.ip(name),
                Err(_) => names.dns(name),
            };
        }
        builder.append_extension(names.build(&builder.x509v3_context(None, None)).unwrap()).unwrap();
    }
    if order.ids {
        let subject = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(subject).unwrap();
        if let Some(by) = by {
            let context = builder.x509v3_context(Some(&by.certificate), None);
            let authority = AuthorityKeyIdentifier::new().keyid(true).build(&context).unwrap();
            builder.append_extension(authority).unwrap();
        }
    }
    let signer = by.map_or(&key, |by| &by.key);
    let digest = if signer.id() == Id::ED25519 { MessageDigest::null() } else { MessageDigest::sha256() };
    builder.sign(signer, digest).unwrap();
    Made { certificate: builder.build(), key }
}
