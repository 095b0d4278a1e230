//! Tabular data through an engine alone: scored, then learnt, row by row.

use anyhow::Context;

use super::{columns, quality};
use crate::detect::{detector::Engine, forest::Forest, oif::OnlineForest, seed::Chance};

/// Points of which the half-life of a long memory has so many.
const HALF_LIFE_POINTS: f64 = 50_000.0;
/// How far the units of columns, which may be any, are evened out.
const EVEN: f64 = 1.0;
/// Rows that are learnt before one counts.
const FIRST: usize = 65;

/// Rows of numbers, and whether each is to be found.
pub(super) struct Table {
    pub(super) rows: Vec<(Vec<f32>, bool)>,
    sides: usize,
}

impl Table {
    /// Reads a CSV; every column but `label` is a number.
    ///
    /// # Errors
    /// If there is no such column, or a cell is no number.
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let [label] = columns(header, ["label"])?;
        let sides = header.split(',').count() - 1;
        let mut rows = Vec::new();
        for (n, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
            let (mut point, mut is_positive) = (Vec::with_capacity(sides), false);
            for (at, cell) in line.split(',').enumerate() {
                let x = cell.trim().parse::<f64>().with_context(|| format!("line {}: {cell:?} is no number", n + 2))?;
                if at == label {
                    is_positive = x != 0.0;
                } else {
                    point.push(x as f32);
                }
            }
            anyhow::ensure!(point.len() == sides, "line {} has {} numbers beside its label instead of {sides}", n + 2, point.len());
            rows.push((point, is_positive));
        }
        anyhow::ensure!(sides > 0 && !rows.is_empty(), "there is no row");
        Ok(Self { rows, sides })
    }

    /// Scores of the rows in this order, each before it is learnt; those that come before there is a score are left out.
    pub(super) fn scored(&self, order: &[usize], engine: Engine, seed: u64) -> Vec<(f64, bool)> {
        let (mut rcf, mut oif) = (Forest::evened(self.sides, seed, EVEN), OnlineForest::new(self.sides, seed));
        let one = |n: &usize| {
            let (point, is_positive) = &self.rows[*n];
            let score = match engine {
                Engine::Rcf => {
                    let score = rcf.score(point);
                    rcf.learn(point, std::f64::consts::LN_2 / HALF_LIFE_POINTS);
                    score
                }
                Engine::Oif => {
                    let score = oif.score(point);
                    oif.learn(point);
                    score
                }
            };
            (score, *is_positive)
        };
        order.iter().map(one).skip(FIRST).collect()
    }

    /// Numbers of the rows, in an order of chance.
    pub(super) fn shuffled(&self, seed: u64) -> Vec<usize> {
        let (mut order, mut chance): (Vec<usize>, _) = ((0..self.rows.len()).collect(), Chance(seed));
        for n in (1..order.len()).rev() {
            order.swap(n, chance.below(n as u64 + 1) as usize);
        }
        order
    }

    /// What is told of it.
    pub(super) fn figures(&self, engine: Engine, seed: u64, shuffles: u64) -> Vec<(&'static str, f64)> {
        let order: Vec<usize> = (0..self.rows.len()).collect();
        let in_order = self.scored(&order, engine, seed);
        let mut figures = vec![
            ("rows", self.rows.len() as f64),
            ("positive", self.rows.iter().filter(|(_, is)| *is).count() as f64),
            ("auc", quality::auc(&in_order)),
            ("ap", quality::average_precision(&in_order)),
        ];
        if shuffles > 0 {
            let runs: Vec<_> =
                (0..shuffles).map(|n| self.scored(&self.shuffled(seed.wrapping_add(n)), engine, seed.wrapping_add(n))).collect();
            let mean = |of: fn(&[(f64, bool)]) -> f64| runs.iter().map(|run| of(run)).sum::<f64>() / shuffles as f64;
            figures.extend([("auc_shuffled", mean(quality::auc)), ("ap_shuffled", mean(quality::average_precision))]);
        }
        figures
    }
}
