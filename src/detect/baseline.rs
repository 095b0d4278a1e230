//! What is usual for one entity: mean and deviation of each feature, and the last day by hours.

use super::{
    GAUGES,
    counts::insert,
    float::exp,
    saved::{CUT, Reader, Writer},
};

/// Standard deviations from which on a feature is named as a cause.
pub const CAUSE_Z: f64 = 2.0;
/// Of the feature's deviation over all entities: below, an entity's own is not believed.
const FLOOR: f64 = 0.05;
/// Windows from which on a feature's mean says something.
const LEAST: u16 = 10;
/// Hours that are kept.
const HOURS: i64 = 24;

/// Mean and variance of one number, the old ones fading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usual {
    mean: f32,
    variance: f32,
    seen: u16,
}

impl Usual {
    /// - `share`: of the old that fades, 0 to 1.
    fn learn(&mut self, x: f64, share: f64) {
        // The first values count alike.
        let weight = share.max(1.0 / (f64::from(self.seen) + 1.0));
        let away = x - f64::from(self.mean);
        self.mean = (f64::from(self.mean) + weight * away) as f32;
        self.variance = ((1.0 - weight) * (f64::from(self.variance) + weight * away * away)) as f32;
        self.seen = self.seen.saturating_add(1);
    }
    pub fn mean(&self) -> f64 {
        f64::from(self.mean)
    }
    /// Standard deviation.
    pub fn deviation(&self) -> f64 {
        f64::from(self.variance).max(0.0).sqrt()
    }
    fn save(&self, out: &mut Writer) {
        out.number(u64::from(self.seen));
        if self.seen > 0 {
            out.f32(self.mean);
            out.f32(self.variance);
        }
    }
    fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let seen = from.small()?;
        Ok(if seen > 0 { Self { mean: from.f32()?, variance: from.f32()?, seen } } else { Self::default() })
    }
}

/// The ten features. Counts are seen with every row, so that one number says how often.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usuals {
    means: [f32; 10],
    variances: [f32; 10],
    rows: u16,
    /// Rows that carried each of [`GAUGES`].
    carried: [u16; GAUGES.len()],
}

impl Usuals {
    /// Learns a row's features: counts always, a gauge only where an event carried it.
    pub fn learn(&mut self, features: &[f64; 10], present: u16, share: f64) {
        for (n, ((mean, variance), x)) in self.means.iter_mut().zip(&mut self.variances).zip(features).enumerate() {
            let carried = gauge(n).and_then(|at| self.carried.get_mut(at));
            if carried.is_some() && present >> n & 1 == 0 {
                continue;
            }
            let mut usual = Usual { mean: *mean, variance: *variance, seen: carried.as_deref().copied().unwrap_or(self.rows) };
            usual.learn(*x, share);
            (*mean, *variance) = (usual.mean, usual.variance);
            if let Some(carried) = carried {
                *carried = usual.seen;
            }
        }
        self.rows = self.rows.saturating_add(1);
    }

    /// Each of them, in the order of [`FEATURES`](super::FEATURES).
    fn iter(&self) -> impl Iterator<Item = Usual> {
        self.means.iter().zip(&self.variances).enumerate().map(|(n, (mean, variance))| {
            let carried = gauge(n).and_then(|at| self.carried.get(at));
            Usual { mean: *mean, variance: *variance, seen: carried.copied().unwrap_or(self.rows) }
        })
    }

    pub fn save(&self, out: &mut Writer) {
        self.iter().for_each(|usual| usual.save(out));
    }
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let mut usuals = Self::default();
        for (n, (mean, variance)) in usuals.means.iter_mut().zip(&mut usuals.variances).enumerate() {
            let usual = Usual::load(from)?;
            (*mean, *variance) = (usual.mean, usual.variance);
            match gauge(n).and_then(|at| usuals.carried.get_mut(at)) {
                Some(carried) => *carried = usual.seen,
                None if n == 0 => usuals.rows = usual.seen,
                None if usuals.rows != usual.seen => return Err(CUT),
                None => {}
            }
        }
        Ok(usuals)
    }
}

/// Which of the gauges a feature is, if it is one.
fn gauge(feature: usize) -> Option<usize> {
    GAUGES.iter().position(|gauge| *gauge == feature)
}

/// How much of the old fades in a span: all by half in a half-life.
pub fn fading(span_ms: i64, half_life_ms: f64) -> f64 {
    1.0 - exp(-std::f64::consts::LN_2 * (span_ms.max(0) as f64 / half_life_ms))
}

/// A feature that is not as usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cause {
    /// Place in [`FEATURES`](super::FEATURES).
    pub feature: usize,
    pub value: f64,
    pub mean: f64,
    /// Standard deviation, as it is.
    pub deviation: f64,
    /// `(value - mean) / max(deviation, floor)`.
    pub z: f64,
}

/// One hour: its number since 1970, windows and events in it, and the mean of each feature, shortened to 16 bits.
#[derive(Clone, Debug, PartialEq)]
struct Hour {
    hour: i32,
    windows: u16,
    events: u32,
    means: [u16; 10],
}

/// A number in 16 bits: the upper half of its 32, three digits.
fn shortened(x: f64) -> u16 {
    let bits = (x as f32).to_bits();
    ((bits.saturating_add(0x7fff + (bits >> 16 & 1))) >> 16) as u16
}
fn lengthened(x: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(x) << 16))
}

/// What is usual for one entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    usuals: Usuals,
    hours: Box<[Hour]>,
    /// The last row's features.
    last: [f32; 10],
    /// Milliseconds since 1970, of events: the first and the last of all windows.
    first_ms: i64,
    last_ms: i64,
    /// Windows, and of their scores the last, the highest and the sum.
    pub windows: u32,
    score: f32,
    score_max: f32,
    score_sum: f64,
}

impl Baseline {
    /// Features of a row that are not as usual, the farthest first.
    ///
    /// - `all`: what is usual over all entities.
    pub fn causes(&self, features: &[f64; 10], present: u16, all: &Usuals) -> Vec<Cause> {
        let mut causes = Vec::new();
        for (feature, ((usual, all), value)) in self.usuals.iter().zip(all.iter()).zip(features).enumerate() {
            if usual.seen < LEAST || (GAUGES.contains(&feature) && present >> feature & 1 == 0) {
                continue;
            }
            let (mean, deviation) = (usual.mean(), usual.deviation());
            let floor = FLOOR * all.deviation();
            let z = (value - mean) / deviation.max(floor).max(1e-9);
            if z.abs() >= CAUSE_Z && (value - mean).abs() > 1e-6 {
                causes.push(Cause { feature, value: *value, mean, deviation, z });
            }
        }
        causes.sort_by(|a, b| b.z.abs().total_cmp(&a.z.abs()).then(a.feature.cmp(&b.feature)));
        causes
    }

    /// Learns a window.
    ///
    /// - `span`: of event time, its first and last event.
    pub fn learn(&mut self, features: &[f64; 10], present: u16, events: u32, span: (i64, i64), half_life_ms: f64, score: f64) {
        let passed = if self.windows == 0 { 0 } else { span.1 - self.last_ms };
        self.usuals.learn(features, present, fading(passed, half_life_ms));
        if self.windows == 0 {
            (self.first_ms, self.last_ms) = span;
        }
        self.first_ms = self.first_ms.min(span.0);
        self.last_ms = self.last_ms.max(span.1);
        self.last = features.map(|x| x as f32);
        self.windows = self.windows.saturating_add(1);
        self.score = score as f32;
        self.score_max = self.score_max.max(self.score);
        self.score_sum += score;
        let hour = i32::try_from(span.0.div_euclid(3_600_000)).unwrap_or(i32::MAX);
        if self.hours.last().is_none_or(|last| last.hour < hour) {
            let is_kept = |old: &Hour| i64::from(old.hour) > i64::from(hour) - HOURS;
            if !self.hours.iter().all(is_kept) {
                self.hours = self.hours.iter().filter(|old| is_kept(old)).cloned().collect();
            }
            let end = self.hours.len();
            insert(&mut self.hours, end, Hour { hour, windows: 0, events: 0, means: [0; 10] });
        }
        if let Some(last) = self.hours.last_mut() {
            last.windows = last.windows.saturating_add(1);
            last.events = last.events.saturating_add(events);
            for (mean, x) in last.means.iter_mut().zip(features) {
                let old = lengthened(*mean);
                *mean = shortened(old + (x - old) / f64::from(last.windows));
            }
        }
    }

    /// What is told of the entity; `None` before its first window.
    pub fn report(&self) -> Option<Report> {
        if self.windows == 0 {
            return None;
        }
        let feature = |n: usize| {
            let mut hourly: Vec<f64> = self.hours.iter().filter_map(|hour| hour.means.get(n)).map(|mean| lengthened(*mean)).collect();
            hourly.sort_by(f64::total_cmp);
            let usual = self.usuals.iter().nth(n).unwrap_or_default();
            let edge = |x: Option<&f64>| x.copied().unwrap_or_default();
            Figures {
                mean: usual.mean(),
                median: edge(hourly.get(hourly.len() / 2)),
                min: edge(hourly.first()),
                max: edge(hourly.last()),
                std: usual.deviation(),
                current: self.last.get(n).copied().map_or(0.0, f64::from),
            }
        };
        let mut activity = [0_u64; 24];
        for hour in &self.hours {
            if let Some(events) = activity.get_mut(hour.hour.rem_euclid(24) as usize) {
                *events += u64::from(hour.events);
            }
        }
        Some(Report {
            data_points: self.windows,
            time_range: (self.first_ms, self.last_ms),
            features: std::array::from_fn(feature),
            activity_by_hour: activity,
            score: (f64::from(self.score), self.score_sum / f64::from(self.windows), f64::from(self.score_max)),
        })
    }

    /// Writes it.
    pub fn save(&self, out: &mut Writer) {
        out.number(u64::from(self.windows));
        if self.windows == 0 {
            return;
        }
        self.usuals.save(out);
        out.signed(self.first_ms);
        out.signed(self.last_ms);
        self.last.iter().for_each(|x| out.f32(*x));
        out.f32(self.score);
        out.f32(self.score_max);
        out.f64(self.score_sum);
        out.number(self.hours.len() as u64);
        for hour in &self.hours {
            out.signed(i64::from(hour.hour));
            out.number(u64::from(hour.windows));
            out.number(u64::from(hour.events));
            hour.means.iter().for_each(|mean| out.number(u64::from(*mean)));
        }
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let windows = from.small()?;
        if windows == 0 {
            return Ok(Self::default());
        }
        let usuals = Usuals::load(from)?;
        let (first_ms, last_ms) = (from.signed()?, from.signed()?);
        let mut baseline = Self { usuals, first_ms, last_ms, windows, ..Self::default() };
        for x in &mut baseline.last {
            *x = from.f32()?;
        }
        (baseline.score, baseline.score_max, baseline.score_sum) = (from.f32()?, from.f32()?, from.f64()?);
        for _ in 0..from.count()? {
            let hour = i32::try_from(from.signed()?).map_err(|_| CUT)?;
            let mut hour = Hour { hour, windows: from.small()?, events: from.small()?, means: [0; 10] };
            for mean in &mut hour.means {
                *mean = from.small()?;
            }
            let end = baseline.hours.len();
            insert(&mut baseline.hours, end, hour);
        }
        Ok(baseline)
    }
}

/// How an entity behaves. Mean and deviation fade with half the baseline's period; median, least and most are of the
/// last 24 hours, by hour.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Windows.
    pub data_points: u32,
    /// Milliseconds since 1970: first and last event.
    pub time_range: (i64, i64),
    /// In the order of [`FEATURES`](super::FEATURES).
    pub features: [Figures; 10],
    /// Events by hour of the day, UTC, of the last 24 hours.
    pub activity_by_hour: [u64; 24],
    /// Score of the last window, mean and greatest of all.
    pub score: (f64, f64, f64),
}

/// One feature of a [`Report`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub mean: f64,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub std: f64,
    pub current: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: f64 = 86_400_000.0;

    fn learn(baseline: &mut Baseline, n: i64, logins: f64) {
        let mut features = [0.0; 10];
        features[1] = logins;
        features[5] = 0.5;
        let start = 1_700_000_000_000 + n * 600_000;
        // Every second window carries the gauge.
        let present = if n % 2 == 0 { 0b10_0010 } else { 0b10 };
        if n % 2 == 1 {
            features[5] = 0.0;
        }
        baseline.learn(&features, present, 3, (start, start + 5000), 3.5 * DAY, 0.5 + 0.01 * (n % 3) as f64);
    }

    #[test]
    fn what_is_far_from_usual_is_a_cause_and_what_is_usual_is_none() {
        let (mut baseline, mut all) = (Baseline::default(), Usuals::default());
        let row = |logins: f64, cpu: f64| {
            let mut features = [0.0; 10];
            (features[1], features[5]) = (logins, cpu);
            features
        };
        for n in 0..100 {
            learn(&mut baseline, n, if n % 2 == 0 { 4.0 } else { 6.0 });
            all.learn(&row(if n % 2 == 0 { 4.0 } else { 6.0 }, 0.5), 0b10_0010, 0.0);
            if n == 8 {
                assert_eq!(baseline.causes(&row(1000.0, 0.5), 0b10_0010, &all), [], "nine windows say nothing");
            }
        }
        assert_eq!(baseline.causes(&row(6.0, 0.5), 0b10_0010, &all), []);
        let causes = baseline.causes(&row(12.0, 0.9), 0b10_0010, &all);
        // The gauge never moved: any change is far.
        assert_eq!(causes.iter().map(|cause| cause.feature).collect::<Vec<_>>(), [5, 1]);
        let logins = causes[1];
        assert!((logins.mean - 5.0).abs() < 0.2 && (logins.deviation - 1.0).abs() < 0.1 && (logins.z - 7.0).abs() < 1.0, "{logins:?}");
        assert_eq!(baseline.causes(&row(5.0, 0.0), 0b10, &all), [], "a gauge that no event carries is not 0");
    }

    #[test]
    fn a_report_has_figures_of_the_last_day_and_none_that_are_invented() {
        let mut baseline = Baseline::default();
        assert_eq!(baseline.report(), None);
        (0..300).for_each(|n| learn(&mut baseline, n, if n < 144 { 100.0 } else { (n % 5) as f64 }));
        let report = baseline.report().unwrap();
        assert_eq!((report.data_points, report.time_range), (300, (1_700_000_000_000, 1_700_000_000_000 + 299 * 600_000 + 5000)));
        let logins = report.features[1];
        assert!(logins.max <= 4.0 && logins.min >= 0.0 && (1.0..3.0).contains(&logins.median), "{logins:?}");
        assert_eq!(logins.current, 4.0);
        assert!(logins.mean > 10.0, "a half-life of days remembers the hundred: {logins:?}");
        assert_eq!(report.activity_by_hour.iter().sum::<u64>(), baseline.hours.iter().map(|hour| u64::from(hour.events)).sum::<u64>());
        assert!(report.activity_by_hour.iter().all(|events| (3..=18).contains(events)), "{:?}", report.activity_by_hour);
        assert!((report.score.1 - 0.51).abs() < 0.001 && report.score.2 > 0.519);
        let mut out = Writer::default();
        baseline.save(&mut out);
        assert!(out.0.len() < 1100, "{} bytes", out.0.len());
        assert_eq!(Baseline::load(&mut Reader(&out.0)), Ok(baseline));
    }

    #[test]
    fn sixteen_bits_keep_three_digits() {
        for x in [0.0, 1.0, 0.3, 1234.0, 9.99e9, -2.5] {
            assert!((lengthened(shortened(x)) - x).abs() <= 0.004 * x.abs(), "{x}");
        }
        assert!(lengthened(shortened(f64::MAX)).is_infinite());
    }
}
