//! What an outcome says to the store.

use super::decide::Loss;
use crate::scan::{
    outcome::{Outcome, Reason, Verdict},
    task::Zeek,
};

/// The loss that an outcome really is: an error that may pass. `None` if it is an answer.
pub(super) fn passing(verdict: Verdict, reasons: &[Reason]) -> Option<Loss> {
    if verdict != Verdict::Error {
        return None;
    }
    reasons.iter().find_map(|reason| match reason {
        Reason::Io => Some(Loss::Io),
        Reason::Changed => Some(Loss::Changed),
        Reason::Timeout => Some(Loss::Timeout),
        _ => None,
    })
}

/// Puts in what Zeek says of the file. A capture that was cut was not seen whole, so the outcome is partial.
pub(super) fn tell_zeek(outcome: &mut Outcome, zeek: &Zeek) {
    if matches!(outcome.verdict, Verdict::Clean | Verdict::Matched) {
        outcome.reasons.extend(zeek.reasons.iter().filter_map(|reason| match reason.as_str() {
            "cutoff" => Some(Reason::Cutoff),
            "missing_bytes" => Some(Reason::MissingBytes),
            "timedout" => Some(Reason::Timedout),
            _ => None,
        }));
        outcome.reasons.sort_unstable();
        outcome.reasons.dedup();
        outcome.partial |= !outcome.reasons.is_empty();
    }
    outcome.zeek = Some(zeek.clone());
}

pub(super) fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::Matched => "matched",
        Verdict::Skipped => "skipped",
        Verdict::Error => "error",
    }
}

/// As it stands in JSON.
pub(super) fn reason_text(reason: Reason) -> String {
    serde_json::to_value(reason).ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
}
