//! LightGBM's own text form, as `Booster.save_model` writes it.
//!
//! What is read of a file: the objective, the number and names of the inputs, and of each `Tree=` block the splits and
//! leaves. Gains, counts, parameters and importances are passed over. A leaf's value has the tree's `shrinkage` in it
//! already. Whatever would change an answer and is not read here is refused by its name: a model that answers a little
//! otherwise than the one that was trained is worse than none.
//!
//! # Source
//! LightGBM 4.7, `tree.cpp` and `tree.h` for a node's decisions, `gbdt_model_text.cpp` for the form, and the objectives'
//! `ConvertOutput`. tests/data/model holds models and answers of the library itself.

use std::collections::BTreeMap;

use super::{
    ModelError,
    forest::{Forest, Look, Split},
};
use crate::limits::{MODEL_INPUTS_MAX, MODEL_LEAVES_MAX, MODEL_TREES_MAX};

/// What the sum of the leaves becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Link {
    /// `regression`
    Identity,
    /// `regression sqrt`: trained on square roots.
    Square,
    /// `binary sigmoid:S`
    Sigmoid(f64),
}

/// A model that was read.
#[derive(Clone, Debug)]
pub struct LightGbm {
    forest: Forest,
    link: Link,
    /// Of a random forest: what the sum is divided by.
    share: Option<f64>,
    /// Names of the inputs, in order.
    pub names: Vec<String>,
}

/// True for what begins as the text form does.
pub fn is_text(bytes: &[u8]) -> bool {
    bytes.starts_with(b"tree\n") || bytes.starts_with(b"tree\r\n")
}

impl LightGbm {
    /// Reads a file.
    ///
    /// # Errors
    /// What in it cannot be taken, by its name.
    pub fn read(text: &str) -> Result<Self, ModelError> {
        let mut lines = Lines { lines: text.lines(), number: 0, next: None };
        let head = lines.block();
        let objective = head.get("objective").copied().unwrap_or_default();
        let link = link_of(objective)?;
        for (key, expected) in [("num_class", "1"), ("num_tree_per_iteration", "1")] {
            let found = head.get(key).copied().unwrap_or(expected);
            if found != expected {
                return wrong(format!("has {key}={found}, and a model must give one number; train it with two classes"));
            }
        }
        match head.get("version").copied().unwrap_or_default() {
            "v3" | "v4" => {}
            other => return wrong(format!("has version={other}, and v3 and v4 are read; save it with LightGBM 3 or 4")),
        }
        let inputs = whole(&head, "max_feature_idx")?.saturating_add(1);
        if inputs > MODEL_INPUTS_MAX {
            return wrong(format!("has {inputs} inputs, and at most {MODEL_INPUTS_MAX} can be; train it with fewer"));
        }
        let names: Vec<String> = head.get("feature_names").copied().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if names.len() != inputs {
            return wrong(format!("names {} inputs and has {inputs}; save it anew", names.len()));
        }
        let mut forest = Forest::default();
        loop {
            let number = lines.number + 1;
            let Some(first) = lines.step() else { return wrong("is cut: it has no line `end of trees`; copy it anew".into()) };
            match first {
                "" => continue,
                "end of trees" => break,
                _ => {}
            }
            let Some(tree) = first.strip_prefix("Tree=") else {
                return wrong(format!("has {:?} in line {number}, where a tree must begin; save it anew", cut(first)));
            };
            if forest.trees() == MODEL_TREES_MAX {
                return wrong(format!("has more than {MODEL_TREES_MAX} trees; train it with fewer"));
            }
            let (splits, leaves) = tree_of(&lines.block(), inputs).map_err(|error| error.of(&format!("Tree={}", cut(tree))))?;
            forest.add(&splits, &leaves).map_err(|error| error.of(&format!("Tree={}", cut(tree))))?;
        }
        let said = head.get("tree_sizes").map_or(0, |sizes| sizes.split_whitespace().count());
        if forest.trees() == 0 || said != forest.trees() {
            return wrong(format!("has {} trees and speaks of {said}; copy it anew", forest.trees()));
        }
        let share = head.contains_key("average_output").then(|| forest.trees() as f64);
        Ok(Self { forest, link, share, names })
    }

    /// How many trees there are.
    pub fn trees(&self) -> usize {
        self.forest.trees()
    }

    /// The model's answer, bit for bit that of `Booster.predict`.
    ///
    /// - `values`: one for each input; NaN is missing.
    /// - `scratch`: memory that is used again.
    pub fn answer(&self, values: &[f64], scratch: &mut Vec<f64>) -> f64 {
        let sum = self.forest.sum(values, scratch);
        let raw = self.share.map_or(sum, |share| sum / share);
        match self.link {
            Link::Identity => raw,
            Link::Square if raw < 0.0 => -raw * raw,
            Link::Square => raw * raw,
            Link::Sigmoid(steepness) => 1.0 / (1.0 + (-steepness * raw).exp()),
        }
    }
}

fn wrong<T>(what: String) -> Result<T, ModelError> {
    Err(ModelError::new(what))
}

/// The beginning of a text that a file holds, for an error.
fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

fn link_of(objective: &str) -> Result<Link, ModelError> {
    let mut words = objective.split_whitespace();
    let (name, options): (&str, Vec<&str>) = (words.next().unwrap_or_default(), words.collect());
    let link = match (name, options.as_slice()) {
        ("regression", []) => Some(Link::Identity),
        ("regression", ["sqrt"]) => Some(Link::Square),
        ("binary", [option]) => {
            option.strip_prefix("sigmoid:").and_then(|s| s.parse().ok()).filter(|s: &f64| s.is_finite() && *s > 0.0).map(Link::Sigmoid)
        }
        _ => None,
    };
    link.ok_or_else(|| {
        let known = "binary and regression are read; train it with one of these";
        ModelError::new(match objective {
            "" => format!("has no objective; {known}"),
            _ => format!("has objective={}; {known}", cut(objective)),
        })
    })
}

/// Lines of a file, in blocks.
struct Lines<'t> {
    lines: std::str::Lines<'t>,
    /// Of the last line that was given, from 1.
    number: usize,
    /// A line that begins the next block.
    next: Option<&'t str>,
}

impl<'t> Lines<'t> {
    fn step(&mut self) -> Option<&'t str> {
        if let Some(line) = self.next.take() {
            return Some(line);
        }
        self.number += 1;
        self.lines.next().map(|line| line.trim_end_matches('\r'))
    }

    /// The `key=value` lines up to a blank one or the next tree; a word alone is a key.
    fn block(&mut self) -> BTreeMap<&'t str, &'t str> {
        let mut block = BTreeMap::new();
        while let Some(line) = self.step() {
            if line.is_empty() {
                break;
            }
            if line.starts_with("Tree=") || line == "end of trees" {
                self.next = Some(line);
                break;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            block.insert(key, value);
        }
        block
    }
}

fn whole(block: &BTreeMap<&str, &str>, key: &str) -> Result<usize, ModelError> {
    let found = block.get(key).copied().unwrap_or_default();
    found.trim().parse().map_err(|_| ModelError::new(format!("has {key}={}, which is no number; save it anew", cut(found))))
}

/// The numbers of a key, exactly so many.
fn numbers<T: std::str::FromStr>(block: &BTreeMap<&str, &str>, key: &str, count: usize) -> Result<Vec<T>, ModelError> {
    let text = block.get(key).copied().unwrap_or_default();
    // Not more than there shall be: a hostile line is not kept.
    let found: Vec<T> = text.split_ascii_whitespace().take(count + 1).map_while(|word| word.parse().ok()).collect();
    if found.len() != count {
        return wrong(format!("{key} must be {count} numbers and is {:?}; save it anew", cut(text)));
    }
    Ok(found)
}

/// Splits and leaves of a `Tree=` block.
fn tree_of(block: &BTreeMap<&str, &str>, inputs: usize) -> Result<(Vec<Split>, Vec<f64>), ModelError> {
    if block.get("is_linear").is_some_and(|linear| *linear != "0") {
        return wrong("has linear leaves (linear_tree), which are not read; train it without".into());
    }
    let leaves = whole(block, "num_leaves")?;
    if leaves == 0 || leaves > MODEL_LEAVES_MAX {
        return wrong(format!("has {leaves} leaves, and 1 to {MODEL_LEAVES_MAX} can be; train it with fewer"));
    }
    let nodes = leaves - 1;
    let values: Vec<f64> = numbers(block, "leaf_value", leaves)?;
    if nodes == 0 {
        return Ok((Vec::new(), values));
    }
    let sets = Sets::read(block)?;
    let features: Vec<usize> = numbers(block, "split_feature", nodes)?;
    let thresholds: Vec<f64> = numbers(block, "threshold", nodes)?;
    let types: Vec<u8> = numbers(block, "decision_type", nodes)?;
    let left: Vec<i32> = numbers(block, "left_child", nodes)?;
    let right: Vec<i32> = numbers(block, "right_child", nodes)?;
    let mut splits = Vec::with_capacity(nodes);
    let rows = features.into_iter().zip(thresholds).zip(types).zip(left.into_iter().zip(right));
    for (((input, threshold), kind), (left, right)) in rows {
        if input >= inputs {
            return wrong(format!("splits by input {input} of {inputs}; save it anew"));
        }
        let look = look_of(kind, threshold, &sets)?;
        splits.push(Split { input, look, threshold, below: [left, right] });
    }
    Ok((splits, values))
}

/// Bit 0 of a node's type: it asks for a category. Bit 1: what is missing goes left. Bits 2 and 3: what is missing.
const CATEGORICAL: u8 = 1;
const DEFAULT_LEFT: u8 = 2;

fn look_of(kind: u8, threshold: f64, sets: &Sets) -> Result<Look, ModelError> {
    if kind & CATEGORICAL != 0 {
        return sets.get(threshold).map(Look::Among);
    }
    match (kind >> 2, kind & DEFAULT_LEFT != 0) {
        (0, _) => Ok(Look::MissingZero),
        (1, true) => Ok(Look::ZeroLeft),
        (1, false) => Ok(Look::ZeroRight),
        (2, true) => Ok(Look::MissingLeft),
        (2, false) => Ok(Look::MissingRight),
        _ => wrong(format!("has decision_type {kind}, which is not known; train it with LightGBM 3 or 4")),
    }
}

/// The sets of categories of a tree.
struct Sets {
    /// One more than there are sets.
    bounds: Vec<usize>,
    words: Vec<u32>,
}

impl Sets {
    fn read(block: &BTreeMap<&str, &str>) -> Result<Self, ModelError> {
        let count = match block.get("num_cat") {
            None | Some(&"0") => return Ok(Self { bounds: Vec::new(), words: Vec::new() }),
            Some(_) => whole(block, "num_cat")?,
        };
        if count > MODEL_LEAVES_MAX {
            return wrong(format!("has {count} sets of categories, and at most {MODEL_LEAVES_MAX} can be; train it with fewer"));
        }
        let bounds: Vec<usize> = numbers(block, "cat_boundaries", count + 1)?;
        let last = bounds.last().copied().unwrap_or(0);
        // A word is at least two bytes of the file, so what is kept is no more than what was read.
        let words = numbers(block, "cat_threshold", last.min(block.get("cat_threshold").map_or(0, |text| text.len())))?;
        Ok(Self { bounds, words })
    }

    /// The set whose number stands where a threshold would.
    fn get(&self, number: f64) -> Result<Vec<u32>, ModelError> {
        let at = number as usize;
        let bounds = self.bounds.get(at).zip(self.bounds.get(at + 1));
        let set = bounds.and_then(|(from, to)| self.words.get(*from..*to));
        set.map(<[u32]>::to_vec).ok_or_else(|| ModelError::new(format!("has no set of categories {number}; save it anew")))
    }
}
