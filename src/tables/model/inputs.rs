//! What a model may be asked with: the names of its inputs, and one row of their values.

/// Every name that an input can have, in the order of a [`Row`]: the ten features of an event or a window, what a closed
/// window has beside them, and the detector's own vector.
pub const INPUTS: [&str; 32] = [
    "network_traffic_volume_mean",
    "number_of_logins_mean",
    "number_of_failed_logins_mean",
    "number_of_accessed_files_mean",
    "number_of_email_sent_mean",
    "cpu_usage_mean",
    "memory_usage_mean",
    "disk_io_mean",
    "network_latency_mean",
    "number_of_processes_mean",
    "level",
    "alert_count",
    "unique_rule_count",
    "event_count",
    "unique_category_count",
    "level_rolling_mean",
    "alert_count_rolling_mean",
    "unique_rule_count_rolling_mean",
    "event_count_rolling_mean",
    "unique_category_count_rolling_mean",
    "alert_count_rate",
    "unique_rule_count_rate",
    "event_count_rate",
    "unique_category_count_rate",
    "n",
    "kinds",
    "new_here",
    "new_anywhere",
    "rare_here",
    "rare_anywhere",
    "burst",
    "surge",
];

/// Where the detector's vector begins.
const VECTOR: usize = 24;

/// Features of one event; the first of [`INPUTS`].
pub const FEATURES: usize = 10;

/// One input: an index of [`INPUTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input(u8);

impl Input {
    /// The input of that name.
    pub fn of(name: &str) -> Option<Self> {
        INPUTS.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok()).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        INPUTS.get(usize::from(self.0)).copied().unwrap_or_default()
    }

    /// True for one of the ten features, which a single event has as well.
    pub fn is_feature(self) -> bool {
        usize::from(self.0) < FEATURES
    }
}

/// Values of all inputs, missing until they are set.
#[derive(Clone, Debug)]
pub struct Row([f64; INPUTS.len()]);

impl Default for Row {
    fn default() -> Self {
        Self([f64::NAN; INPUTS.len()])
    }
}

impl Row {
    /// The row of one event.
    ///
    /// - `features`: F1 to F10.
    /// - `present`: bit 0 is F1; a feature whose bit is not set is missing.
    pub fn of_event(features: &[f64; FEATURES], present: u16) -> Self {
        let mut row = Self::default();
        for (n, (slot, value)) in row.0.iter_mut().zip(features).enumerate() {
            if present >> n & 1 == 1 {
                *slot = *value;
            }
        }
        row
    }

    /// The same row with the eight numbers of the detector's vector.
    #[must_use]
    pub fn with_vector(mut self, vector: &[f64; INPUTS.len() - VECTOR]) -> Self {
        if let Some(slots) = self.0.get_mut(VECTOR..) {
            slots.copy_from_slice(vector);
        }
        self
    }

    /// Sets one value; NaN is missing.
    pub fn set(&mut self, input: Input, value: f64) {
        if let Some(slot) = self.0.get_mut(usize::from(input.0)) {
            *slot = value;
        }
    }

    /// One value; NaN where it is missing.
    pub fn get(&self, input: Input) -> f64 {
        self.0.get(usize::from(input.0)).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_what_was_set_and_the_rest_is_missing() {
        let row = Row::of_event(&[0.5; FEATURES], 0b11).with_vector(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let value = |name: &str| row.get(Input::of(name).unwrap());
        assert_eq!((value("network_traffic_volume_mean"), value("number_of_logins_mean")), (0.5, 0.5));
        assert!(value("number_of_failed_logins_mean").is_nan() && value("level").is_nan());
        assert_eq!((value("n"), value("surge")), (1.0, 8.0));
        assert_eq!(Input::of("F1"), None);
    }

    #[test]
    fn every_name_is_one_input() {
        for (n, name) in INPUTS.iter().enumerate() {
            let input = Input::of(name).unwrap();
            assert_eq!((input.name(), input.is_feature()), (*name, n < 10));
        }
    }
}
