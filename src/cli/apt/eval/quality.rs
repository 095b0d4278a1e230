//! How well scores tell the ones from the others.

/// The area under the ROC curve: the chance that a positive scores higher than a negative, ties counting half.
///
/// - `scored`: score, and whether it is positive. Without both kinds the answer is NaN.
pub(super) fn auc(scored: &[(f64, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut area) = (0.0, 0.0);
    for same in sorted.chunk_by(|a, b| a.0 == b.0) {
        let positive = same.iter().filter(|(_, is)| *is).count() as f64;
        let negative = same.len() as f64 - positive;
        area += positive * (below + negative / 2.0);
        below += negative;
    }
    area / (below * (sorted.len() as f64 - below))
}

/// Average precision: the mean of the precision at each positive, from the highest score downwards; equal scores are
/// taken together.
pub(super) fn average_precision(scored: &[(f64, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut found, mut seen, mut sum) = (0.0, 0.0, 0.0);
    for same in sorted.chunk_by(|a, b| a.0 == b.0) {
        let positive = same.iter().filter(|(_, is)| *is).count() as f64;
        (found, seen) = (found + positive, seen + same.len() as f64);
        sum += positive * found / seen;
    }
    sum / found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_are_those_of_their_definitions(scored in proptest::collection::vec((0..9u8, any::<bool>()), 2..60)) {
            let scored: Vec<(f64, bool)> = scored.into_iter().map(|(score, is)| (f64::from(score), is)).collect();
            type Rows = Vec<(f64, bool)>;
            let (ones, others): (Rows, Rows) = scored.iter().copied().partition(|(_, is)| *is);
            if ones.is_empty() || others.is_empty() {
                return Ok(());
            }
            let wins = ones.iter().flat_map(|a| others.iter().map(move |b| if a.0 > b.0 { 1.0 } else if a.0 == b.0 { 0.5 } else { 0.0 }));
            let expected = wins.sum::<f64>() / (ones.len() * others.len()) as f64;
            prop_assert!((auc(&scored) - expected).abs() < 1e-12);
            let at_least = |score: f64, of: &[(f64, bool)]| of.iter().filter(|other| other.0 >= score).count() as f64;
            let expected = ones.iter().map(|one| at_least(one.0, &ones) / at_least(one.0, &scored)).sum::<f64>() / ones.len() as f64;
            prop_assert!((average_precision(&scored) - expected).abs() < 1e-12);
        }
    }
}
