//! An online isolation forest (Leveni and others, ICML 2024): trees of counts over the last points, ten times as fast
//! as a random cut forest and not quite as good.
//!
//! A node counts the points in its box. A leaf that has many splits across a random side, as if its points were
//! spread evenly over its box; an inner node that has few becomes a leaf again. Crowded places are cut finely, so a
//! point that ends in a shallow leaf is alone.

#![allow(clippy::indexing_slicing, reason = "numbers of nodes are made here, and checked where they are read")]

use std::collections::VecDeque;

use super::{
    float::{exp, log2},
    saved::{CUT, Reader, Writer},
    seed::{Chance, mixed},
};

const TREES: usize = 32;
/// Points that are remembered.
const LAST: usize = 2048;
/// Points of a leaf at the root; twice as many on each level below it.
const LEAF: u32 = 32;
/// Points before there is a score.
const FIRST: usize = 65;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    /// `NONE` is a leaf's.
    left: u32,
    right: u32,
    side: u16,
    at: f32,
    count: u32,
}

#[derive(Clone, Debug)]
struct Tree {
    nodes: Vec<Node>,
    /// Of each node the lowest and the highest coordinates.
    boxes: Vec<f32>,
    free: Vec<u32>,
    chance: Chance,
}

/// The forest.
#[derive(Clone, Debug)]
pub struct OnlineForest {
    sides: usize,
    trees: Vec<Tree>,
    last: VecDeque<Box<[f32]>>,
}

/// Points from which on a node of this depth is split.
fn many(depth: u32) -> u32 {
    LEAF << depth.min(20)
}

impl Tree {
    fn new(sides: usize, seed: u64) -> Self {
        let mut tree = Self { nodes: Vec::new(), boxes: Vec::new(), free: Vec::new(), chance: Chance(seed) };
        tree.add(sides, 0);
        tree
    }

    fn add(&mut self, sides: usize, count: u32) -> u32 {
        let node = Node { left: NONE, right: NONE, side: 0, at: 0.0, count };
        let n = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(node);
            self.boxes.resize(self.nodes.len() * 2 * sides, 0.0);
            (self.nodes.len() - 1) as u32
        });
        self.nodes[n as usize] = node;
        let (lows, highs) = self.box_of(n, sides).split_at_mut(sides);
        lows.fill(f32::INFINITY);
        highs.fill(f32::NEG_INFINITY);
        n
    }
    fn box_of(&mut self, n: u32, sides: usize) -> &mut [f32] {
        let at = n as usize * 2 * sides;
        &mut self.boxes[at..at + 2 * sides]
    }
    fn child(&self, node: Node, point: &[f32]) -> u32 {
        if point[usize::from(node.side)] <= node.at { node.left } else { node.right }
    }

    fn learn(&mut self, point: &[f32]) {
        let (sides, mut n, mut depth) = (point.len(), 0, 0);
        loop {
            let (lows, highs) = self.box_of(n, sides).split_at_mut(sides);
            for ((low, high), x) in lows.iter_mut().zip(highs).zip(point) {
                *low = low.min(*x);
                *high = high.max(*x);
            }
            let node = &mut self.nodes[n as usize];
            node.count += 1;
            let node = *node;
            if node.left == NONE {
                if node.count >= many(depth) {
                    self.split(n, sides);
                }
                return;
            }
            n = self.child(node, point);
            depth += 1;
        }
    }

    fn split(&mut self, n: u32, sides: usize) {
        let side = self.chance.below(sides as u64) as usize;
        let drawn = self.chance.unit();
        let parent = self.box_of(n, sides).to_vec();
        let (low, high) = (parent[side], parent[sides + side]);
        let at = (f64::from(low) + drawn * (f64::from(high) - f64::from(low))) as f32;
        // A side without length cannot be cut; another one may be drawn with the next point.
        if !(low <= at && at < high) {
            return;
        }
        let count = self.nodes[n as usize].count;
        let share = (f64::from(at) - f64::from(low)) / (f64::from(high) - f64::from(low));
        let left_count = (f64::from(count) * share).round() as u32;
        let (left, right) = (self.add(sides, left_count), self.add(sides, count - left_count));
        for (child, from, to) in [(left, low, at), (right, at, high)] {
            let place = self.box_of(child, sides);
            place.copy_from_slice(&parent);
            (place[side], place[sides + side]) = (from, to);
        }
        self.nodes[n as usize] = Node { left, right, side: side as u16, at, count };
    }

    fn unlearn(&mut self, point: &[f32]) {
        let (mut n, mut depth) = (0, 0);
        loop {
            let node = &mut self.nodes[n as usize];
            // A child may hold fewer than came: its parent's points were not spread as evenly as was thought.
            node.count = node.count.saturating_sub(1);
            let node = *node;
            if node.left == NONE {
                return;
            }
            if node.count < many(depth) {
                self.merge(n);
                return;
            }
            n = self.child(node, point);
            depth += 1;
        }
    }

    fn merge(&mut self, n: u32) {
        let node = self.nodes[n as usize];
        let mut open = vec![node.left, node.right];
        while let Some(gone) = open.pop() {
            let node = self.nodes[gone as usize];
            if node.left != NONE {
                open.extend([node.left, node.right]);
            }
            self.free.push(gone);
        }
        self.nodes[n as usize] = Node { left: NONE, right: NONE, ..node };
    }

    /// Depth of the leaf in which a point lies, and how much deeper its points would be told apart.
    fn depth(&self, point: &[f32]) -> f64 {
        let (mut n, mut depth) = (0, 0);
        loop {
            let node = self.nodes[n as usize];
            if node.left == NONE {
                return f64::from(depth) + log2((f64::from(node.count) / f64::from(LEAF)).max(1.0));
            }
            n = self.child(node, point);
            depth += 1;
        }
    }

    fn save(&self, sides: usize, out: &mut Writer) {
        out.u64(self.chance.0);
        let mut open = vec![0];
        while let Some(n) = open.pop() {
            let node = self.nodes[n as usize];
            out.number(u64::from(node.count));
            let at = n as usize * 2 * sides;
            self.boxes[at..at + 2 * sides].iter().for_each(|x| out.f32(*x));
            if node.left == NONE {
                out.number(0);
            } else {
                out.number(u64::from(node.side) + 1);
                out.f32(node.at);
                open.extend([node.right, node.left]);
            }
        }
    }

    fn load(sides: usize, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let mut tree = Self { nodes: Vec::new(), boxes: Vec::new(), free: Vec::new(), chance: Chance(from.u64()?) };
        // Parents whose next child is to come: the left one first.
        let mut open = vec![(NONE, false)];
        while let Some((parent, is_right)) = open.pop() {
            let count = from.small()?;
            let n = tree.add(sides, count);
            for side in 0..2 * sides {
                tree.box_of(n, sides)[side] = from.f32()?;
            }
            if parent != NONE {
                let node = &mut tree.nodes[parent as usize];
                *(if is_right { &mut node.right } else { &mut node.left }) = n;
            }
            let side = from.small::<u16>()?;
            if side > 0 {
                if usize::from(side) > sides {
                    return Err(CUT);
                }
                let at = from.f32()?;
                let node = &mut tree.nodes[n as usize];
                (node.side, node.at) = (side - 1, at);
                open.extend([(n, true), (n, false)]);
            }
            if tree.nodes.len() > 4 * LAST {
                return Err(CUT);
            }
        }
        Ok(tree)
    }
}

impl OnlineForest {
    /// - `sides`: coordinates of a point, at least one.
    pub fn new(sides: usize, seed: u64) -> Self {
        let mut chance = Chance(mixed(seed));
        Self { sides, trees: (0..TREES).map(|_| Tree::new(sides, chance.next())).collect(), last: VecDeque::new() }
    }

    fn tamed(&self, point: &[f32]) -> Box<[f32]> {
        let tame = |x: &f32| if x.is_nan() { 0.0 } else { x.clamp(-1e30, 1e30) };
        point.iter().map(tame).chain(std::iter::repeat(0.0)).take(self.sides).collect()
    }

    /// The score of a point, up to 1 for what is alone; 0 before the first 65 points.
    pub fn score(&self, point: &[f32]) -> f64 {
        if self.last.len() < FIRST {
            return 0.0;
        }
        let point = self.tamed(point);
        let depth = self.trees.iter().map(|tree| tree.depth(&point)).sum::<f64>() / TREES as f64;
        let usual = log2(self.last.len() as f64 / f64::from(LEAF)).max(1.0);
        exp(-std::f64::consts::LN_2 * depth / usual)
    }

    /// Learns a point; the oldest one is forgotten.
    pub fn learn(&mut self, point: &[f32]) {
        let point = self.tamed(point);
        self.trees.iter_mut().for_each(|tree| tree.learn(&point));
        self.last.push_back(point);
        if self.last.len() > LAST
            && let Some(gone) = self.last.pop_front()
        {
            self.trees.iter_mut().for_each(|tree| tree.unlearn(&gone));
        }
    }

    /// Writes all that it needs to go on.
    pub fn save(&self, out: &mut Writer) {
        out.number(self.last.len() as u64);
        self.last.iter().flatten().for_each(|x| out.f32(*x));
        self.trees.iter().for_each(|tree| tree.save(self.sides, out));
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(sides: usize, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let mut forest = Self { sides, trees: Vec::new(), last: VecDeque::new() };
        let points = from.count()?;
        if points > LAST {
            return Err(CUT);
        }
        for _ in 0..points {
            forest.last.push_back((0..sides).map(|_| from.f32()).collect::<Result<_, _>>()?);
        }
        for _ in 0..TREES {
            forest.trees.push(Tree::load(sides, from)?);
        }
        Ok(forest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(chance: &mut Chance, far: bool) -> [f32; 3] {
        std::array::from_fn(|side| {
            let noise = (0..4).map(|_| chance.unit() - 0.5).sum::<f64>() as f32;
            noise + if far && side == 1 { 4.0 } else { 0.0 }
        })
    }

    #[test]
    fn what_is_alone_scores_high_and_what_was_forgotten_is_alone_again() {
        let (mut forest, mut chance) = (OnlineForest::new(3, 1), Chance(2));
        for n in 0..6000_usize {
            assert_eq!(forest.score(&[0.0; 3]) == 0.0, n < FIRST);
            forest.learn(&point(&mut chance, (1000..2000).contains(&n)));
        }
        let mean = |forest: &OnlineForest, far| {
            let mut chance = Chance(3);
            (0..100).map(|_| forest.score(&point(&mut chance, far))).sum::<f64>() / 100.0
        };
        assert!(mean(&forest, true) > mean(&forest, false) + 0.05, "{} {}", mean(&forest, true), mean(&forest, false));
        assert!(forest.trees.iter().all(|tree| tree.nodes[0].count == LAST as u32));
        assert!(forest.trees.iter().all(|tree| tree.nodes.len() < 4 * LAST));
    }

    #[test]
    fn a_saved_forest_goes_on_as_if_nothing_had_happened() {
        let (mut one, mut chance) = (OnlineForest::new(3, 1), Chance(2));
        (0..3000).for_each(|_| one.learn(&point(&mut chance, false)));
        let saved = |forest: &OnlineForest| {
            let mut out = Writer::default();
            forest.save(&mut out);
            out.0
        };
        let bytes = saved(&one);
        let mut reader = Reader(&bytes);
        let mut two = OnlineForest::load(3, &mut reader).unwrap();
        assert!(reader.0.is_empty());
        assert!((0..bytes.len()).step_by(97).all(|end| OnlineForest::load(3, &mut Reader(&bytes[..end])).is_err()));
        for n in 0..3000 {
            let next = point(&mut chance, n % 50 == 0);
            assert_eq!(one.score(&next).to_bits(), two.score(&next).to_bits());
            one.learn(&next);
            two.learn(&next);
        }
        assert_eq!(saved(&one), saved(&two));
    }
}
