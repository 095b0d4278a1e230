//! What is right and wrong with the certificate files of a TLS client, before anybody connects.
//!
//! Pure: it is handed the bytes of the files and the time. A broker that does not take a
//! certificate says so in three words, and the library that cannot read one in a number; here each
//! case has a sentence that names the file, what is wrong with it and what to do.
//!
//! | refused | because |
//! |---|---|
//! | a file is missing, no PEM, or lacks what it is for | nothing can be proven from it |
//! | the key is encrypted and has no password, or a wrong one; or it is another certificate's | no handshake can succeed |
//! | a certificate of the chain is not valid now | brokers refuse it |
//! | nobody in `tls.ca` signed the certificate, or one who may not sign | the same |
//! | `tls.ca` holds no root | no broker can be verified by it |
//!
//! Invariant: nothing here connects, reads a file or asks for the time; no text holds a secret.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use openssl::{
    error::ErrorStack,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{X509, X509Ref},
};

use self::{
    chain::{Chain, look_at_chain, to_be_sent},
    facts::{clean, date, facts, key_digest, kind, may_not_sign, name, nanos, same, seconds},
};
use super::secret::Secret;
use crate::clock::Nanos;

mod chain;
mod facts;
#[cfg(test)]
pub(super) mod made;
#[cfg(test)]
mod tests;

const DAY: i64 = 86_400;

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct Pem {
    /// The setting that names it, such as `tls.ca`.
    pub setting: &'static str,
    pub path: PathBuf,
    /// Its bytes, or why it cannot be read.
    pub bytes: Result<Vec<u8>, String>,
}

/// The files of one client.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Who vouches for the other side, and for our certificate; `None`: the system's CAs.
    pub ca: Option<Pem>,
    /// Our certificate and its key.
    pub own: Option<(Pem, Pem)>,
    /// The key's password, or why it cannot be read.
    pub password: Option<Result<Secret, String>>,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be; a fact.
    Good(String),
    /// It works, and somebody should know.
    Warning(String),
    /// It cannot work: what failed, on which file, and the remedy after `;`.
    Refused(String),
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// When the first certificate that is needed ends; nanoseconds since 1970.
    pub ends: Option<Nanos>,
    /// The CN of our certificate.
    pub common_name: Option<String>,
}

impl Report {
    /// Everything that is refused, as one text; `None` if nothing is.
    pub fn refusal(&self) -> Option<String> {
        let refused = self.findings.iter().filter_map(|finding| match finding {
            Finding::Refused(text) => Some(text.as_str()),
            _ => None,
        });
        let all = refused.collect::<Vec<_>>().join(" · ");
        (!all.is_empty()).then_some(all)
    }

    fn good(&mut self, text: impl Into<String>) {
        self.findings.push(Finding::Good(text.into()));
    }
    fn warn(&mut self, text: impl Into<String>) {
        self.findings.push(Finding::Warning(text.into()));
    }
    fn refuse(&mut self, text: impl Into<String>) {
        self.findings.push(Finding::Refused(text.into()));
    }
}

/// Looks at the files as a broker and the TLS library would.
///
/// - `now`: wall time, nanoseconds since 1970.
pub fn look(files: &Files, now: Nanos) -> Report {
    let now = i64::try_from(now / 1_000_000_000).unwrap_or(i64::MAX);
    let mut report = Report::default();
    let ca = match &files.ca {
        Some(pem) => certificates(pem).map_err(|what| report.refuse(what)).ok(),
        None => {
            report.good("the brokers are verified by the system's CAs");
            None
        }
    };
    if let (Some(pem), Some(ca)) = (&files.ca, &ca) {
        look_at_ca(pem, ca, files.own.is_some(), now, &mut report);
    }
    if let Some((cert, key)) = &files.own {
        let own = certificates(cert).map_err(|what| report.refuse(what)).ok();
        let key_read = private_key(key, files.password.as_ref(), &mut report);
        if let Some((leaf, rest)) = own.as_deref().and_then(<[X509]>::split_first) {
            look_at_own(cert, leaf, now, &mut report);
            if let Some(private) = key_read {
                fits(cert, leaf, key, &private, &mut report);
            }
            if let (Some(pem), Some(ca)) = (&files.ca, &ca) {
                look_at_chain(&Chain { cert, leaf, rest, pem, ca, now }, &mut report);
            }
        }
    }
    report
}

/// Our certificate with the intermediates that stand in `tls.ca` only, as PEM: the client must show
/// them, and a client that reads `tls.cert` does not find them. `None`: `tls.cert` is all there is to show.
pub fn chain_with_intermediates(files: &Files) -> Option<String> {
    let (pem, (cert, _)) = files.ca.as_ref().zip(files.own.as_ref())?;
    let (ca, own) = (certificates(pem).ok()?, certificates(cert).ok()?);
    let (leaf, rest) = own.split_first()?;
    to_be_sent(&Chain { cert, leaf, rest, pem, ca: &ca, now: 0 })
}

/// Every certificate of a file; at least one.
fn certificates(pem: &Pem) -> Result<Vec<X509>, String> {
    let at = place(pem);
    let bytes = read(pem)?;
    let begins = |what: &str| memchr::memmem::find(bytes, what.as_bytes()).is_some();
    match X509::stack_from_pem(bytes) {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) if begins("-----BEGIN") => Err(format!("{at}: holds no certificate; write one there as PEM (-----BEGIN CERTIFICATE-----)")),
        Ok(_) if X509::from_der(bytes).is_ok() => {
            Err(format!("{at}: is DER, not PEM; convert it by `openssl x509 -inform der -in FILE -out FILE.pem`"))
        }
        Ok(_) => Err(format!("{at}: is not PEM; write a certificate there as PEM (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(format!("{at}: cannot be read as PEM ({}); write it anew, it may be cut or damaged", reason(&error))),
    }
}

fn read(pem: &Pem) -> Result<&[u8], String> {
    let remedy = "write the file there, readable for the agent's user, or correct the setting";
    pem.bytes.as_deref().map_err(|why| format!("{}: cannot be read: {why}; {remedy}", place(pem)))
}

/// `tls.ca /etc/shipper/ca.pem`.
fn place(pem: &Pem) -> String {
    format!("{} {}", pem.setting, pem.path.display())
}

fn reason(error: &ErrorStack) -> String {
    error.errors().last().and_then(|e| e.reason()).unwrap_or("unknown reason").to_owned()
}

fn look_at_ca(pem: &Pem, ca: &[X509], has_own: bool, now: i64, report: &mut Report) {
    let at = place(pem);
    for certificate in ca {
        report.good(format!("{at}: {}", facts(certificate, now)));
    }
    let roots: Vec<&X509> = ca.iter().filter(|c| same(c.subject_name(), c.issuer_name())).collect();
    if roots.is_empty() {
        report.refuse(format!("{at}: holds no root (a certificate that signed itself), so no broker can be verified by it; add the root"));
        return;
    }
    if let Some(what) = roots.iter().map(|root| untimely(root, now)).collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().next()) {
        report.refuse(format!("{at}: {what}"));
        return;
    }
    for certificate in ca {
        if let Some(what) = untimely(certificate, now) {
            report.warn(format!("{at}: {what}"));
        }
    }
    if !has_own {
        report.ends = roots.iter().map(|root| seconds(root.not_after())).max().map(nanos);
        for root in roots.iter().filter(|root| may_not_sign(root)) {
            report.warn(format!(
                "{at}: {} may not sign certificates, so it vouches only for a broker that shows this very one; give the CA",
                name(root.subject_name())
            ));
        }
    }
}

fn look_at_own(cert: &Pem, leaf: &X509, now: i64, report: &mut Report) {
    let at = place(cert);
    report.common_name =
        leaf.subject_name().entries_by_nid(Nid::COMMONNAME).last().and_then(|e| e.data().to_string().ok()).map(|t| clean(&t));
    report.good(format!("{at}: {}", facts(leaf, now)));
    if let Some(what) = untimely(leaf, now) {
        report.refuse(format!("{at}: {what}"));
    }
}

/// Why a certificate is not valid now.
fn untimely(certificate: &X509Ref, now: i64) -> Option<String> {
    let (from, to, who) = (seconds(certificate.not_before()), seconds(certificate.not_after()), name(certificate.subject_name()));
    if now < from {
        let days = (from - now).div_euclid(DAY);
        return Some(format!("{who} is not valid before {} ({days} days from now); see this host's clock, or wait", date(from)));
    }
    (now > to).then(|| {
        let days = (now - to).div_euclid(DAY);
        format!("{who} is expired: it ended on {} ({days} days ago); ask for a new one and write it there", date(to))
    })
}

/// The key, if it can be read.
fn private_key(pem: &Pem, password: Option<&Result<Secret, String>>, report: &mut Report) -> Option<PKey<Private>> {
    let at = place(pem);
    let bytes = match read(pem) {
        Ok(bytes) => bytes,
        Err(what) => {
            report.refuse(what);
            return None;
        }
    };
    let mut asked = false;
    let key = PKey::private_key_from_pem_callback(bytes, |buffer| {
        asked = true;
        let secret = password.and_then(|p| p.as_ref().ok()).map(|s| s.reveal().as_bytes()).unwrap_or_default();
        let Some(room) = buffer.get_mut(..secret.len()) else { return Ok(0) };
        room.copy_from_slice(secret);
        Ok(secret.len())
    });
    match (key, asked, password) {
        (_, _, Some(Err(what))) => report.refuse(format!("tls.key_password_file: {what}")),
        (Ok(key), false, Some(Ok(_))) => {
            report.warn(format!("{at}: is not encrypted; remove tls.key_password_file, or encrypt the key"));
            return Some(key);
        }
        (Ok(key), ..) => return Some(key),
        (Err(_), true, None) => {
            report.refuse(format!("{at}: is encrypted; write its password into a file and name that in tls.key_password_file"))
        }
        (Err(_), true, Some(Ok(_))) => {
            report.refuse(format!("{at}: the password in tls.key_password_file does not open it; write the right one into its first line"))
        }
        (Err(error), false, _) if memchr::memmem::find(bytes, b"PRIVATE KEY-----").is_some() => {
            report.refuse(format!("{at}: cannot be read as PEM ({}); write it anew, it may be cut or damaged", reason(&error)))
        }
        (Err(_), false, _) => report.refuse(format!("{at}: holds no private key; write it there as PEM (-----BEGIN PRIVATE KEY-----)")),
    }
    None
}

fn fits(cert: &Pem, leaf: &X509, key_file: &Pem, key: &PKey<Private>, report: &mut Report) {
    let of = place(key_file);
    match leaf.public_key() {
        Ok(public) if public.public_eq(key) => report.good(format!("{of}: {}, fits the certificate", kind(key))),
        Ok(public) => report.refuse(format!(
            "{of}: is not the key of {} (public key SHA-256 {}, the certificate's is {}); give the key that the certificate was asked for with",
            place(cert),
            key_digest(key),
            key_digest(&public)
        )),
        Err(error) => report.refuse(format!(
            "{}: its public key is of a kind that OpenSSL cannot read ({}); ask for one with an RSA, EC or Ed25519 key",
            place(cert),
            reason(&error)
        )),
    }
}
