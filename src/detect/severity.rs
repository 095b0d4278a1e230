//! The one scale of severity.

use std::fmt;

/// How grave something is, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Severity; 5] = [Severity::Informational, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

    /// What a score of 0 to 1 means: from 0.5 Low, 0.7 Medium, 0.8 High, 0.9 Critical.
    pub fn of_score(score: f64) -> Self {
        match score {
            s if s >= 0.9 => Severity::Critical,
            s if s >= 0.8 => Severity::High,
            s if s >= 0.7 => Severity::Medium,
            s if s >= 0.5 => Severity::Low,
            _ => Severity::Informational,
        }
    }

    /// What the level of a Wazuh rule means: 0 to 6 Low, to 11 Medium, to 14 High, above Critical.
    pub fn of_wazuh_level(level: u8) -> Self {
        match level {
            0..=6 => Severity::Low,
            7..=11 => Severity::Medium,
            12..=14 => Severity::High,
            _ => Severity::Critical,
        }
    }

    /// The severity of that name, in any case; Sigma's levels are the same words.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.word().eq_ignore_ascii_case(word))
    }

    /// As alerts have it.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Informational => "Informational",
            Severity::Low => "Low",
            Severity::Medium => "Medium",
            Severity::High => "High",
            Severity::Critical => "Critical",
        }
    }

    /// One step up, if there is one.
    pub fn raised(self) -> Self {
        Self::ALL.into_iter().find(|other| *other > self).unwrap_or(self)
    }

    /// One step down, if there is one.
    pub fn lowered(self) -> Self {
        Self::ALL.into_iter().rev().find(|other| *other < self).unwrap_or(self)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_band_begins_where_it_is_said_to() {
        let score = |s| Severity::of_score(s).word();
        let scores = [0.0, 0.499_99, 0.5, 0.699_99, 0.7, 0.799_99, 0.8, 0.899_99, 0.9, 1.0].map(score);
        assert_eq!(scores, ["Informational", "Informational", "Low", "Low", "Medium", "Medium", "High", "High", "Critical", "Critical"]);
        assert_eq!(score(f64::NAN), "Informational");
        let levels = [0, 6, 7, 11, 12, 14, 15, 16, 255].map(|level| Severity::of_wazuh_level(level).word());
        assert_eq!(levels, ["Low", "Low", "Medium", "Medium", "High", "High", "Critical", "Critical", "Critical"]);
    }

    #[test]
    fn a_step_stays_on_the_scale() {
        for (n, severity) in Severity::ALL.into_iter().enumerate() {
            assert_eq!(Severity::of_word(&severity.word().to_uppercase()), Some(severity));
            assert_eq!(severity.raised(), Severity::ALL[(n + 1).min(4)]);
            assert_eq!(severity.lowered(), Severity::ALL[n.saturating_sub(1)]);
        }
        assert_eq!(Severity::of_word("urgent"), None);
    }
}
