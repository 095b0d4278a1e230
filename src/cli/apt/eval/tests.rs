//! The bars, on the corpus where it is there: `SHIPPER_CORPUS/apt`, by default beside the checkout.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]

use std::path::PathBuf;

use super::*;

/// A folder of the corpus; says so if it is not there.
fn corpus(folder: &str) -> Option<PathBuf> {
    let dir =
        std::env::var("SHIPPER_CORPUS").map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let dir = dir.join("apt").join(folder);
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no corpus at {}; SHIPPER_CORPUS says where it is", dir.display());
    None
}

const SCENARIOS: [&str; 4] = ["russellmitchell", "shaw", "fox", "harrison"];

/// Means of auc, ap, cov@3 and cov@10 over the four scenarios.
fn ait(dir: &Path, only: &str, engine: Engine) -> [f64; 4] {
    let mut sums = [0.0; 4];
    for scenario in SCENARIOS {
        let text = text(&dir.join(format!("{scenario}_alerts.csv.gz"))).unwrap();
        let figures = ait::windows(&text, only, engine, 42).unwrap().figures();
        eprintln!("{scenario}: {figures:?}");
        for (sum, name) in sums.iter_mut().zip(["auc", "ap", "cov@3", "cov@10"]) {
            *sum += figures.iter().find(|(known, _)| *known == name).unwrap().1 / 4.0;
        }
    }
    sums
}

#[test]
fn attacks_on_the_four_networks_are_ranked_above_the_bars() {
    let Some(dir) = corpus("ait_ads") else { return };
    let [auc, ap, few, more] = ait(&dir, "", Engine::Rcf);
    assert!(auc >= 0.980 && ap >= 0.67 && few >= 0.82 && more >= 0.89, "auc {auc:.4}, ap {ap:.4}, cov@3 {few:.4}, cov@10 {more:.4}");
}

#[test]
fn attacks_in_alerts_of_wazuh_alone_are_ranked_above_the_bars() {
    let Some(dir) = corpus("ait_ads") else { return };
    let [auc, ap, ..] = ait(&dir, "W", Engine::Rcf);
    assert!(auc >= 0.999 && ap >= 0.98, "auc {auc:.4}, ap {ap:.4}");
}

#[test]
fn the_faster_engine_is_better_than_counting() {
    let Some(dir) = corpus("ait_ads") else { return };
    let [auc, ..] = ait(&dir, "", Engine::Oif);
    assert!(auc >= 0.80, "auc {auc:.4}");
}

/// One shuffle, so that a debug build is done in seconds; the command takes the mean of three. Of smtp's 95,156 rows 30
/// are positive: one shuffle differs from the next by 0.01 (rcf3's by 0.03, around 0.918).
#[test]
fn tables_are_ranked_above_the_bars() {
    let Some(dir) = corpus("tabular") else { return };
    for (name, in_order, shuffled) in
        [("shuttle", 0.98, Some(0.92)), ("smtp", 0.86, Some(0.88)), ("thyroid", 0.91, Some(0.95)), ("annthyroid", 0.68, None)]
    {
        let table = table::Table::read(&text(&dir.join(format!("{name}.csv.gz"))).unwrap()).unwrap();
        let figures = table.figures(Engine::Rcf, 42, u64::from(shuffled.is_some()));
        eprintln!("{name}: {figures:?}");
        let of = |name: &str| figures.iter().find(|(known, _)| *known == name).unwrap().1;
        assert!(of("auc") >= in_order, "{name} in file order: {:.4}", of("auc"));
        if let Some(bar) = shuffled {
            assert!(of("auc_shuffled") >= bar, "{name} shuffled: {:.4}", of("auc_shuffled"));
        }
    }
}

/// Both see the same rows in the same order.
#[test]
fn on_tables_the_forest_is_as_good_as_rcf3() {
    let Some(dir) = corpus("tabular") else { return };
    for (name, rows) in [("shuttle", 12_000), ("thyroid", 3_772), ("annthyroid", 7_200)] {
        let mut table = table::Table::read(&text(&dir.join(format!("{name}.csv.gz"))).unwrap()).unwrap();
        table.rows.truncate(rows);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for seed in 0..3 {
            let order = table.shuffled(seed);
            let mut other =
                rcf3::Forest::builder(table.rows[0].0.len()).num_trees(50).capacity(256).time_decay(1.4e-5).seed(seed).build().unwrap();
            let scored = order.iter().map(|n| {
                let (point, is_positive) = &table.rows[*n];
                let score = if other.is_ready() { other.score(point).unwrap() } else { 0.0 };
                other.update(point).unwrap();
                (score, *is_positive)
            });
            theirs.push(quality::auc(&scored.skip(65).collect::<Vec<_>>()));
            ours.push(quality::auc(&table.scored(&order, Engine::Rcf, seed)));
        }
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        eprintln!("{name}: ours {:.4}, rcf3 {:.4}", mean(&ours), mean(&theirs));
        assert!(mean(&ours) >= mean(&theirs) - 0.01, "{name}: {ours:?} against {theirs:?}");
    }
}

#[test]
fn one_seed_is_one_result() {
    let text = "time,host,short,event_label\n".to_owned()
        + &(0..40_000)
            .map(|n| format!("{},h{},k{},{}\n", n * 10, n % 7, n % 5 * (n % 3), if n % 5000 == 4999 { "x" } else { "-" }))
            .collect::<String>();
    let scores =
        |seed| ait::windows(&text, "", Engine::Rcf, seed).unwrap().scored.iter().map(|one| one.score.to_bits()).collect::<Vec<_>>();
    assert!(scores(1).len() > 1000);
    assert_eq!(scores(1), scores(1));
    assert_ne!(scores(1), scores(2));
}
