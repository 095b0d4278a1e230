//! Whether somebody in `tls.ca` vouches for our certificate: OpenSSL judges, we say what it means.

use openssl::{
    error::ErrorStack,
    stack::Stack,
    x509::{
        X509, X509PurposeId, X509Ref, X509StoreContext,
        store::X509StoreBuilder,
        verify::{X509VerifyFlags, X509VerifyParam},
    },
};

use super::{
    DAY, Pem, Report,
    facts::{basic_constraints, date, fingerprint, name, nanos, same, seconds},
    place, reason, untimely,
};
use crate::limits::CERTIFICATE_WARN_DAYS;

/// One certificate, who may vouch for it, and the time.
pub(super) struct Chain<'a> {
    pub cert: &'a Pem,
    pub leaf: &'a X509,
    pub rest: &'a [X509],
    pub pem: &'a Pem,
    pub ca: &'a [X509],
    pub now: i64,
}

/// What OpenSSL makes of the chain.
enum Verdict {
    Whole(Vec<X509>),
    Broken(Broken),
}

/// Adds what is to be said of the chain, and when it ends.
pub(super) fn look_at_chain(chain: &Chain<'_>, report: &mut Report) {
    let timely = verify(chain, Some(chain.now));
    let verdict = match timely {
        // Another certificate than ours is out of its time: said with its dates; then the rest.
        Ok(Verdict::Broken(Broken { code: 9 | 10, depth, of: Some(of), .. })) => {
            if let (1.., Some(what)) = (depth, untimely(&of, chain.now)) {
                report.refuse(format!("{}: {what}", file_of(chain, &of)));
            }
            verify(chain, None)
        }
        other => other,
    };
    match verdict {
        Ok(Verdict::Whole(all)) => {
            report.ends = all.iter().map(|c| seconds(c.not_after())).min().map(nanos);
            if report.refusal().is_none() {
                let links = all.iter().map(|c| format!("{} ({})", name(c.subject_name()), file_of(chain, c)));
                report.good(format!("chain: {}", links.collect::<Vec<_>>().join(", signed by ")));
            }
            let until = report.ends.map(|ends| i64::try_from(ends / 1_000_000_000).unwrap_or(i64::MAX));
            if let Some(until) = until.filter(|until| (chain.now..chain.now + i64::from(CERTIFICATE_WARN_DAYS) * DAY).contains(until)) {
                let first = all.iter().find(|c| seconds(c.not_after()) == until);
                report.warn(format!(
                    "{} ends on {} ({} days left); ask for a new one now",
                    first.map(|c| format!("{}: {}", file_of(chain, c), name(c.subject_name()))).unwrap_or_default(),
                    date(until),
                    (until - chain.now).div_euclid(DAY)
                ));
            }
        }
        Ok(Verdict::Broken(broken)) => report.refuse(what_broke(chain, &broken)),
        Err(error) => report.refuse(format!("{}: the chain cannot be verified ({}); see its files", place(chain.cert), reason(&error))),
    }
}

struct Broken {
    /// One of `X509_V_ERR_*`, and OpenSSL's words for it.
    code: i32,
    words: &'static str,
    depth: u32,
    /// The certificate that it is about.
    of: Option<X509>,
    so_far: Vec<X509>,
}

/// Asks OpenSSL whether the chain holds; without `now` the times of its certificates do not matter.
///
/// An intermediate in `tls.ca` whose own issuer is not there is a good anchor too, the second best.
fn verify(chain: &Chain<'_>, now: Option<i64>) -> Result<Verdict, ErrorStack> {
    let to_the_root = verify_with(chain, now, X509VerifyFlags::empty())?;
    if matches!(to_the_root, Verdict::Broken(Broken { code: 2 | 20 | 21, .. }))
        && let whole @ Verdict::Whole(_) = verify_with(chain, now, X509VerifyFlags::PARTIAL_CHAIN)?
    {
        return Ok(whole);
    }
    Ok(to_the_root)
}

fn verify_with(chain: &Chain<'_>, now: Option<i64>, mut flags: X509VerifyFlags) -> Result<Verdict, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for certificate in chain.ca {
        store.add_cert(certificate.clone())?;
    }
    let mut param = X509VerifyParam::new()?;
    match now {
        Some(now) => param.set_time(now),
        None => flags |= X509VerifyFlags::NO_CHECK_TIME,
    }
    param.set_flags(flags)?;
    param.set_purpose(X509PurposeId::SSL_CLIENT)?;
    store.set_param(&param)?;
    let mut rest = Stack::new()?;
    for certificate in chain.rest {
        rest.push(certificate.clone())?;
    }
    X509StoreContext::new()?.init(&store.build(), chain.leaf, &rest, |context| {
        let whole = context.verify_cert()?;
        let so_far: Vec<X509> = context.chain().into_iter().flatten().map(ToOwned::to_owned).collect();
        let of = context.current_cert().map(ToOwned::to_owned);
        let (code, words, depth) = (context.error().as_raw(), context.error().error_string(), context.error_depth());
        Ok(if whole { Verdict::Whole(so_far) } else { Verdict::Broken(Broken { code, words, depth, of, so_far }) })
    })
}

/// Certificate and intermediates as PEM, where an intermediate stands in `tls.ca` only.
pub(super) fn to_be_sent(chain: &Chain<'_>) -> Option<String> {
    let Ok(Verdict::Whole(all)) = verify(chain, None) else { return None };
    let sent: Vec<&X509> = all.iter().filter(|c| !same(c.subject_name(), c.issuer_name())).collect();
    let is_own = |c: &X509| std::iter::once(chain.leaf).chain(chain.rest).any(|own| own.as_ref() == c.as_ref());
    if sent.iter().all(|c| is_own(c)) {
        return None;
    }
    let pem: Result<Vec<Vec<u8>>, ErrorStack> = sent.iter().map(|c| c.to_pem()).collect();
    String::from_utf8(pem.ok()?.concat()).ok()
}

/// Says what an error of OpenSSL's verification means.
fn what_broke(chain: &Chain<'_>, broken: &Broken) -> String {
    let Broken { code, words, depth, of, so_far } = broken;
    let (at, ca) = (place(chain.cert), place(chain.pem));
    let who = of.as_ref().unwrap_or(chain.leaf);
    let (subject, issuer) = (name(who.subject_name()), name(who.issuer_name()));
    match *code {
        7 => format!(
            "{at}: {subject} was not signed by {issuer} in {}, which has that name but another key; give the CA that signed it",
            so_far.iter().find(|c| same(c.subject_name(), who.issuer_name())).map_or(ca, |c| file_of(chain, c))
        ),
        24 | 79 => {
            let why = match basic_constraints(who) {
                Some(false) => "basicConstraints says that it is no CA",
                _ => "its key usage lacks keyCertSign",
            };
            format!("{}: {subject} may not sign certificates ({why}); give the CA that signed {at}", file_of(chain, who))
        }
        25 => format!("{}: {subject} may not sign that long a chain (its pathlen); ask its owner", file_of(chain, who)),
        26 if *depth == 0 => {
            format!("{at}: {subject} is not for clients (its extended key usage lacks clientAuth); ask for a client certificate")
        }
        26 => format!("{}: {subject} may not sign certificates of clients (its key usage); give another CA", file_of(chain, who)),
        2 | 18..=21 => {
            let last = so_far.last().unwrap_or(chain.leaf);
            let (subject, issuer) = (name(last.subject_name()), name(last.issuer_name()));
            let bearers: Vec<&X509> = chain
                .ca
                .iter()
                .chain(chain.rest)
                .filter(|c| same(c.subject_name(), last.issuer_name()) && c.as_ref() != last.as_ref())
                .collect();
            // X509_V_ERR_KEYUSAGE_NO_CERTSIGN
            if let Some(bearer) = bearers.iter().find(|c| c.issued(last).as_raw() == 32) {
                return format!(
                    "{}: {issuer} may not sign certificates (its key usage lacks keyCertSign); give the CA that signed {at}",
                    file_of(chain, bearer)
                );
            }
            if let Some(bearer) = bearers.first() {
                return format!(
                    "{at}: {subject} was not signed by {issuer} in {}, which has that name but another key (SHA-256 {}); give the CA that signed it",
                    file_of(chain, bearer),
                    fingerprint(bearer)
                );
            }
            let held: Vec<String> = chain.ca.iter().map(|c| format!("{} (SHA-256 {})", name(c.subject_name()), fingerprint(c))).collect();
            if same(last.subject_name(), last.issuer_name()) {
                return format!("{at}: {subject} signed itself and is not in {ca}; give the CA that signed our certificate");
            }
            format!(
                "{at}: {subject} was signed by {issuer}, which is not in {ca} (there: {}); give that CA, or append the intermediate to tls.cert",
                held.join(", ")
            )
        }
        _ => format!(
            "{}: {subject}: {words}; see `openssl verify -CAfile {} {}`",
            file_of(chain, who),
            chain.pem.path.display(),
            chain.cert.path.display()
        ),
    }
}

/// The file that a certificate of the chain stands in.
fn file_of(chain: &Chain<'_>, certificate: &X509Ref) -> String {
    let is_own = std::iter::once(chain.leaf).chain(chain.rest).any(|c| c.as_ref() == certificate);
    place(if is_own { chain.cert } else { chain.pem })
}
