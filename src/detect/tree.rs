//! One tree of a random cut forest: a sample of points, cut apart at random (Guha and others, ICML 2016).
//!
//! A cut halves the box of its points across one side, drawn in proportion to the sides' lengths, at a place drawn
//! uniformly. Inserting and deleting keep exactly this distribution: the tree is always one that could have been
//! drawn for the points that it holds, so it needs no rebuilding. A point far from the others is cut off early, near
//! the root; how early is its score.
//!
//! Nodes are numbers into arenas. Results do not depend on which numbers: a tree that was saved and read goes on to
//! the same scores and makes the same choices.

#![allow(clippy::indexing_slicing, reason = "numbers of nodes are made here, and checked where they are read")]

use super::{
    float::{ln, log2},
    saved::{CUT, Reader, Writer},
    seed::Chance,
};

/// Points that one tree may hold: a node's number has 15 bits and one that says "leaf".
pub const POINTS_MAX: usize = 1 << 14;
/// A node's number with this bit is a leaf's.
const LEAF: u16 = 0x8000;
const NONE: u16 = u16::MAX;
/// What displacement counts beside depth.
const DISPLACEMENT: f64 = 0.3;

/// An inner node. Points whose coordinate is at most `at` lie on the left.
#[derive(Clone, Copy, Debug)]
struct Cut {
    side: u16,
    at: f32,
    left: u16,
    right: u16,
    parent: u16,
    /// Points below it, equal ones counted.
    mass: u16,
}

/// A sample of points with the cuts between them.
#[derive(Clone, Debug)]
pub struct Tree {
    sides: usize,
    root: u16,
    cuts: Vec<Cut>,
    /// Of each cut the lowest and the highest coordinates of what is below it.
    boxes: Vec<f32>,
    free_cuts: Vec<u16>,
    points: Vec<f32>,
    /// Of each leaf its parent and how many equal points it stands for.
    leaves: Vec<(u16, u16)>,
    free_leaves: Vec<u16>,
    /// The sample: leaf and weight of each point; the heaviest goes first.
    sample: Vec<(u16, f64)>,
    heaviest: usize,
    chance: Chance,
}

/// Values that depend on depth and mass alone.
#[derive(Clone, Debug)]
pub struct Logs(Vec<f64>);

impl Logs {
    /// - `points`: the greatest mass.
    pub fn new(points: usize) -> Self {
        Self((0..=points).map(|mass| log2(1.0 + mass as f64)).collect())
    }
    fn of(&self, mass: u16) -> f64 {
        self.0.get(usize::from(mass)).copied().unwrap_or_default()
    }
}

/// By how much a point lies outside of a box, and how long the box's sides are, summed.
///
/// - `scale`: what a unit of each side counts.
fn outside(lows: &[f32], highs: &[f32], point: &[f32], scale: &[f32]) -> (f32, f32) {
    let (mut gap, mut length) = (0.0, 0.0);
    for (((low, high), x), scale) in lows.iter().zip(highs).zip(point).zip(scale) {
        gap += ((low - x).max(0.0) + (x - high).max(0.0)) * scale;
        length += (high - low) * scale;
    }
    (gap, length)
}

impl Tree {
    /// - `sides`: coordinates of a point.
    pub fn new(sides: usize, seed: u64) -> Self {
        Self {
            sides,
            root: NONE,
            cuts: Vec::new(),
            boxes: Vec::new(),
            free_cuts: Vec::new(),
            points: Vec::new(),
            leaves: Vec::new(),
            free_leaves: Vec::new(),
            sample: Vec::new(),
            heaviest: 0,
            chance: Chance(seed),
        }
    }

    fn point(&self, leaf: u16) -> &[f32] {
        let at = usize::from(leaf & !LEAF) * self.sides;
        &self.points[at..at + self.sides]
    }
    fn bounds(&self, node: u16) -> (&[f32], &[f32]) {
        if node & LEAF != 0 {
            let point = self.point(node);
            return (point, point);
        }
        let at = usize::from(node) * 2 * self.sides;
        self.boxes[at..at + 2 * self.sides].split_at(self.sides)
    }
    fn mass(&self, node: u16) -> u16 {
        if node & LEAF != 0 { self.leaves[usize::from(node & !LEAF)].1 } else { self.cuts[usize::from(node)].mass }
    }
    fn set_parent(&mut self, node: u16, parent: u16) {
        if node & LEAF != 0 {
            self.leaves[usize::from(node & !LEAF)].0 = parent;
        } else {
            self.cuts[usize::from(node)].parent = parent;
        }
    }
    /// Puts a node in the place of another one below `parent`.
    fn replace(&mut self, parent: u16, old: u16, new: u16) {
        if parent == NONE {
            self.root = new;
        } else {
            let cut = &mut self.cuts[usize::from(parent)];
            if cut.left == old {
                cut.left = new;
            } else {
                cut.right = new;
            }
        }
        self.set_parent(new, parent);
    }

    /// The score of a point that is not learnt: its expected depth and how many it stands among, 1 for what is like
    /// the others, more for what is not.
    ///
    /// A cut of the box with the point in it that would cut it off counts `1 / (depth + 1)`, its isolation, and
    /// [`DISPLACEMENT`] times the share of all points that it would be cut off from, in proportion to how likely that
    /// cut is. A point that is held already counts `1 / (depth + log2(1 + its mass))`, damped by its share of the tree.
    /// The sum is made comparable between trees by `log2(1 + points)`.
    ///
    /// - `scale`: what a unit of each coordinate counts.
    pub fn score(&self, point: &[f32], scale: &[f32], logs: &Logs) -> f64 {
        self.visit(point, scale, logs, |_, _, _| ())
    }

    /// As [`score`](Self::score), and adds to `shares` what of it comes from each coordinate.
    pub fn attribute(&self, point: &[f32], scale: &[f32], logs: &Logs, shares: &mut [f64]) {
        let norm = logs.of(self.sample.len() as u16);
        self.visit(point, scale, logs, |(lows, highs), gap, part| {
            for ((share, scale), ((low, high), x)) in shares.iter_mut().zip(scale).zip(lows.iter().zip(highs).zip(point)) {
                *share += norm * part * f64::from(((low - x).max(0.0) + (x - high).max(0.0)) * scale / gap);
            }
        });
    }

    /// - `part`: is told of each box outside of which the point lies, by how much, and what that adds to the score.
    fn visit(&self, point: &[f32], scale: &[f32], logs: &Logs, mut part: impl FnMut((&[f32], &[f32]), f32, f64)) -> f64 {
        if self.root == NONE {
            return 0.0;
        }
        let all = self.sample.len() as u16;
        let (mut node, mut depth, mut left, mut score) = (self.root, 0.0, 1.0, 0.0);
        loop {
            let bounds = self.bounds(node);
            let (gap, length) = outside(bounds.0, bounds.1, point, scale);
            if node & LEAF != 0 {
                let mass = self.mass(node);
                if gap > 0.0 {
                    let added = left * (1.0 / (depth + 1.0) + DISPLACEMENT * f64::from(mass) / f64::from(all));
                    part(bounds, gap, added);
                    score += added;
                } else {
                    let damp = 1.0 - f64::from(mass) / (2.0 * f64::from(all));
                    score += left * damp / (depth + logs.of(mass));
                }
                return score * logs.of(all);
            }
            if gap > 0.0 {
                let cut_off = f64::from(gap) / (f64::from(gap) + f64::from(length));
                let displaced = f64::from(self.mass(node)) / f64::from(all);
                let added = left * cut_off * (1.0 / (depth + 1.0) + DISPLACEMENT * displaced);
                part(bounds, gap, added);
                score += added;
                left *= 1.0 - cut_off;
                // What is left can no longer be seen in the score.
                if left < 1e-9 {
                    return score * logs.of(all);
                }
            }
            let cut = &self.cuts[usize::from(node)];
            node = if point[usize::from(cut.side)] <= cut.at { cut.left } else { cut.right };
            depth += 1.0;
        }
    }

    /// Offers a point to the sample; it may take the place of an older one.
    ///
    /// - `age`: grows by the logarithm of how much more a point weighs than the one before it.
    /// - `room`: points that the sample may hold, at most [`POINTS_MAX`].
    pub fn offer(&mut self, point: &[f32], scale: &[f32], age: f64, room: usize) {
        // The sample holds the points of the lowest weights; a weight is exponential with the rate e^age
        // (Efraimidis and Spirakis, 2006), as logarithm.
        let weight = ln(-ln(self.chance.unit())) - age;
        if self.sample.len() < room {
            let leaf = self.insert(point, scale);
            self.sample.push((leaf, weight));
        } else {
            match self.sample.get(self.heaviest) {
                Some((_, heaviest)) if weight < *heaviest => {}
                _ => return,
            }
            let heaviest = self.heaviest;
            let (gone, _) = self.sample[heaviest];
            self.delete(gone);
            self.sample[heaviest] = (self.insert(point, scale), weight);
        }
        self.find_heaviest();
    }

    fn find_heaviest(&mut self) {
        let mut heaviest = (0, f64::NEG_INFINITY);
        for (n, (_, weight)) in self.sample.iter().enumerate() {
            if *weight > heaviest.1 {
                heaviest = (n, *weight);
            }
        }
        self.heaviest = heaviest.0;
    }

    fn new_leaf(&mut self, point: &[f32]) -> u16 {
        let n = self.free_leaves.pop().unwrap_or_else(|| {
            self.leaves.push((NONE, 0));
            self.points.resize(self.leaves.len() * self.sides, 0.0);
            (self.leaves.len() - 1) as u16
        });
        self.leaves[usize::from(n)] = (NONE, 1);
        let at = usize::from(n) * self.sides;
        self.points[at..at + self.sides].copy_from_slice(point);
        n | LEAF
    }
    fn new_cut(&mut self, cut: Cut) -> u16 {
        let n = self.free_cuts.pop().unwrap_or_else(|| {
            self.cuts.push(cut);
            self.boxes.resize(self.cuts.len() * 2 * self.sides, 0.0);
            (self.cuts.len() - 1) as u16
        });
        self.cuts[usize::from(n)] = cut;
        n
    }

    /// Adds a point; gives the leaf that stands for it.
    fn insert(&mut self, point: &[f32], scale: &[f32]) -> u16 {
        if self.root == NONE {
            self.root = self.new_leaf(point);
            return self.root;
        }
        let mut node = self.root;
        loop {
            let (lows, highs) = self.bounds(node);
            let (gap, length) = outside(lows, highs, point, scale);
            if node & LEAF != 0 && gap == 0.0 {
                self.leaves[usize::from(node & !LEAF)].1 += 1;
                return node;
            }
            // A cut of the box with the point in it: outside of the old box it cuts the point off, inside it is the
            // cut that is there.
            if gap > 0.0 {
                let drawn = (self.chance.unit() * (f64::from(gap) + f64::from(length))) as f32;
                if drawn < gap || node & LEAF != 0 {
                    return self.split(node, point, scale, drawn.min(gap));
                }
            }
            let at = usize::from(node) * 2 * self.sides;
            let (lows, highs) = self.boxes[at..at + 2 * self.sides].split_at_mut(self.sides);
            for ((low, high), x) in lows.iter_mut().zip(highs).zip(point) {
                *low = low.min(*x);
                *high = high.max(*x);
            }
            let cut = &mut self.cuts[usize::from(node)];
            cut.mass += 1;
            node = if point[usize::from(cut.side)] <= cut.at { cut.left } else { cut.right };
        }
    }

    /// Cuts a point off from a node outside of whose box it lies.
    ///
    /// - `drawn`: where along the gaps of all sides.
    fn split(&mut self, node: u16, point: &[f32], scale: &[f32], mut drawn: f32) -> u16 {
        let (lows, highs) = self.bounds(node);
        let mut found = None;
        for (side, (((low, high), x), scale)) in lows.iter().zip(highs).zip(point).zip(scale).enumerate() {
            let gap = ((low - x).max(0.0) + (x - high).max(0.0)) * scale;
            if gap == 0.0 {
                continue;
            }
            // Rounding may lead past the last gap; the place is then at its end.
            let below = x < low;
            let (from, to) = if below { (*x, *low) } else { (*high, *x) };
            let at = from + drawn.min(gap) / scale;
            found = Some((side as u16, if at < to { at } else { from }, below));
            if drawn < gap {
                break;
            }
            drawn -= gap;
        }
        let Some((side, at, below)) = found else { return node };
        let parent = if node & LEAF != 0 { self.leaves[usize::from(node & !LEAF)].0 } else { self.cuts[usize::from(node)].parent };
        let leaf = self.new_leaf(point);
        let (left, right) = if below { (leaf, node) } else { (node, leaf) };
        let cut = self.new_cut(Cut { side, at, left, right, parent, mass: self.mass(node) + 1 });
        self.replace(parent, node, cut);
        self.set_parent(node, cut);
        self.set_parent(leaf, cut);
        self.fit(cut);
        leaf
    }

    /// Makes the box of a cut that of its two children; true if it changed.
    fn fit(&mut self, cut: u16) -> bool {
        let Cut { left, right, .. } = self.cuts[usize::from(cut)];
        let mut changed = false;
        for side in 0..self.sides {
            let (left, right) = (self.bounds(left), self.bounds(right));
            let (low, high) = (left.0[side].min(right.0[side]), left.1[side].max(right.1[side]));
            let at = usize::from(cut) * 2 * self.sides + side;
            changed |= self.boxes[at] != low || self.boxes[at + self.sides] != high;
            self.boxes[at] = low;
            self.boxes[at + self.sides] = high;
        }
        changed
    }

    /// Takes one of the points away for which a leaf stands.
    fn delete(&mut self, leaf: u16) {
        let n = usize::from(leaf & !LEAF);
        let (parent, mass) = self.leaves[n];
        let mut above = parent;
        let mut refit = false;
        if mass > 1 {
            self.leaves[n].1 = mass - 1;
        } else {
            self.free_leaves.push(leaf & !LEAF);
            if parent == NONE {
                self.root = NONE;
                return;
            }
            let cut = self.cuts[usize::from(parent)];
            let sibling = if cut.left == leaf { cut.right } else { cut.left };
            self.replace(cut.parent, parent, sibling);
            self.free_cuts.push(parent);
            above = cut.parent;
            refit = true;
        }
        while above != NONE {
            // A box that stays as it is leaves those around it as they are.
            refit = refit && self.fit(above);
            let cut = &mut self.cuts[usize::from(above)];
            cut.mass -= 1;
            above = cut.parent;
        }
    }

    /// Everything but the boxes, which follow from the points: the nodes from the root downwards, then the sample.
    pub fn save(&self, out: &mut Writer) {
        out.u64(self.chance.0);
        out.number(self.sample.len() as u64);
        let mut order = vec![0_u64; self.leaves.len()];
        let mut found = 0;
        let mut open = if self.root == NONE { Vec::new() } else { vec![self.root] };
        while let Some(node) = open.pop() {
            if node & LEAF != 0 {
                let n = usize::from(node & !LEAF);
                out.number(0);
                out.number(u64::from(self.leaves[n].1));
                self.point(node).iter().for_each(|x| out.f32(*x));
                order[n] = found;
                found += 1;
            } else {
                let cut = &self.cuts[usize::from(node)];
                out.number(u64::from(cut.side) + 1);
                out.f32(cut.at);
                open.extend([cut.right, cut.left]);
            }
        }
        for (leaf, weight) in &self.sample {
            out.number(order[usize::from(leaf & !LEAF)]);
            out.f64(*weight);
        }
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(sides: usize, room: usize, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        let mut tree = Self::new(sides, from.u64()?);
        let points = from.count()?;
        if points > room.min(POINTS_MAX) {
            return Err(CUT);
        }
        // Cuts whose right side is still to come.
        let mut open: Vec<u16> = Vec::new();
        let mut leaves = 0;
        #[allow(clippy::while_immutable_condition, reason = "it ends with the last leaf")]
        while points > 0 {
            let tag = from.small::<u16>()?;
            let parent = open.last().copied().unwrap_or(NONE);
            let node = if tag == 0 {
                let mass = from.small::<u16>()?;
                let point = (0..sides).map(|_| from.f32()).collect::<Result<Vec<f32>, _>>()?;
                if mass == 0 || point.iter().any(|x| !x.is_finite()) {
                    return Err(CUT);
                }
                let leaf = tree.new_leaf(&point);
                tree.leaves[usize::from(leaf & !LEAF)] = (parent, mass);
                leaf
            } else {
                let at = from.f32()?;
                if usize::from(tag) > sides {
                    return Err(CUT);
                }
                tree.new_cut(Cut { side: tag - 1, at, left: NONE, right: NONE, parent, mass: 0 })
            };
            match parent {
                NONE => tree.root = node,
                _ if tree.cuts[usize::from(parent)].left == NONE => tree.cuts[usize::from(parent)].left = node,
                _ => tree.cuts[usize::from(parent)].right = node,
            }
            if node & LEAF == 0 {
                open.push(node);
            } else {
                leaves += 1;
                // A cut is done once both its sides are.
                while let Some(cut) = open.last().copied().filter(|cut| tree.cuts[usize::from(*cut)].right != NONE) {
                    open.pop();
                    tree.fit(cut);
                    let Cut { left, right, .. } = tree.cuts[usize::from(cut)];
                    tree.cuts[usize::from(cut)].mass = tree.mass(left).checked_add(tree.mass(right)).ok_or(CUT)?;
                }
                if open.is_empty() {
                    break;
                }
            }
            if tree.leaves.len() > points || tree.cuts.len() > points {
                return Err(CUT);
            }
        }
        if points > 0 && usize::from(tree.mass(tree.root)) != points {
            return Err(CUT);
        }
        for _ in 0..points {
            let leaf = from.small::<u16>()?;
            let weight = from.f64()?;
            if leaf >= leaves || weight.is_nan() {
                return Err(CUT);
            }
            tree.sample.push((leaf | LEAF, weight));
        }
        let mut held = vec![0; tree.leaves.len()];
        tree.sample.iter().for_each(|(leaf, _)| held[usize::from(leaf & !LEAF)] += 1);
        if tree.leaves.iter().zip(&held).any(|((_, mass), held)| mass != held) {
            return Err(CUT);
        }
        tree.find_heaviest();
        Ok(tree)
    }
}

#[cfg(test)]
#[allow(clippy::needless_range_loop, reason = "a side is a side of several lists")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCALE: [f32; 2] = [1.0, 3.0];

    impl Tree {
        /// Checks everything that must hold between nodes, against the points below each; gives those.
        fn checked(&self, node: u16, parent: u16) -> Vec<(Vec<f32>, u16)> {
            let below: Vec<(Vec<f32>, u16)> = if node & LEAF != 0 {
                let (up, mass) = self.leaves[usize::from(node & !LEAF)];
                assert_eq!(up, parent);
                vec![(self.point(node).to_vec(), mass)]
            } else {
                let cut = self.cuts[usize::from(node)];
                assert_eq!(cut.parent, parent);
                let (left, right) = (self.checked(cut.left, node), self.checked(cut.right, node));
                let side = usize::from(cut.side);
                assert!(left.iter().all(|(point, _)| point[side] <= cut.at), "left of {} at {}", side, cut.at);
                assert!(right.iter().all(|(point, _)| point[side] > cut.at), "right of {} at {}", side, cut.at);
                [left, right].concat()
            };
            assert_eq!(self.mass(node), below.iter().map(|(_, mass)| mass).sum::<u16>());
            let (lows, highs) = self.bounds(node);
            for side in 0..self.sides {
                let values = || below.iter().map(|(point, _)| point[side]);
                assert_eq!(lows[side], values().fold(f32::INFINITY, f32::min));
                assert_eq!(highs[side], values().fold(f32::NEG_INFINITY, f32::max));
            }
            below
        }

        fn sorted(&self) -> Vec<(Vec<f32>, u16)> {
            let mut all = if self.root == NONE { Vec::new() } else { self.checked(self.root, NONE) };
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            all
        }
    }

    /// Points on a coarse grid, so that equal ones and equal coordinates come.
    fn points(sides: usize) -> impl Strategy<Value = Vec<(Vec<f32>, usize)>> {
        let coordinate = (-4..4i8).prop_map(|x| f32::from(x) * 0.3);
        proptest::collection::vec((proptest::collection::vec(coordinate, sides), 0..50usize), 1..120)
    }

    proptest! {
        #[test]
        fn inserting_and_deleting_leaves_the_tree_of_what_is_held(steps in points(3), seed in any::<u64>()) {
            let mut tree = Tree::new(3, seed);
            let (mut held, mut leaves): (Vec<Vec<f32>>, Vec<u16>) = Default::default();
            for (point, delete) in steps {
                leaves.push(tree.insert(&point, &[1.0; 3]));
                held.push(point);
                if delete < 20 {
                    let n = delete % held.len();
                    held.swap_remove(n);
                    tree.delete(leaves.swap_remove(n));
                }
                // The naive twin: the points, equal ones together.
                let mut twin: Vec<(Vec<f32>, u16)> = Vec::new();
                held.sort_by(|a, b| a.partial_cmp(b).unwrap());
                leaves.sort_by(|a, b| tree.point(*a).partial_cmp(tree.point(*b)).unwrap());
                for point in &held {
                    match twin.last_mut() {
                        Some((last, mass)) if last == point => *mass += 1,
                        _ => twin.push((point.clone(), 1)),
                    }
                }
                prop_assert_eq!(tree.sorted(), twin);
            }
            for leaf in leaves {
                tree.delete(leaf);
            }
            prop_assert_eq!(tree.root, NONE);
        }

        #[test]
        fn a_saved_tree_goes_on_as_if_nothing_had_happened(steps in points(2), seed in any::<u64>(), cut in 0..120usize) {
            let (mut one, mut two) = (Tree::new(2, seed), Tree::new(2, seed));
            let logs = Logs::new(40);
            for (n, (point, _)) in steps.iter().enumerate() {
                if n == cut {
                    let mut out = Writer::default();
                    two.save(&mut out);
                    let mut reader = Reader(&out.0);
                    two = Tree::load(2, 40, &mut reader).unwrap();
                    prop_assert!(reader.0.is_empty());
                    prop_assert_eq!(two.sorted(), one.sorted());
                    // Cut anywhere, it is refused, and never a panic.
                    for end in 0..out.0.len() {
                        prop_assert!(Tree::load(2, 40, &mut Reader(&out.0[..end])).is_err());
                    }
                }
                prop_assert_eq!(one.score(point, &SCALE, &logs).to_bits(), two.score(point, &SCALE, &logs).to_bits());
                one.offer(point, &SCALE, n as f64 * 0.01, 40);
                two.offer(point, &SCALE, n as f64 * 0.01, 40);
            }
            let (mut a, mut b) = (Writer::default(), Writer::default());
            one.save(&mut a);
            two.save(&mut b);
            prop_assert_eq!(a.0, b.0);
        }

        #[test]
        fn arbitrary_bytes_are_no_tree_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Tree::load(1, 40, &mut Reader(&bytes));
        }
    }

    #[test]
    fn cuts_fall_where_the_sides_are_long() {
        // Two points, one side ten times as long as the other by what its unit counts: ten of eleven cuts are across it.
        let (mut long, logs) = (0, Logs::new(4));
        for seed in 0..4000 {
            let mut tree = Tree::new(2, seed);
            tree.offer(&[0.0, 0.0], &[1.0, 0.5], 0.0, 4);
            tree.offer(&[10.0, 2.0], &[1.0, 0.5], 0.0, 4);
            long += u32::from(tree.cuts[0].side == 0);
            assert!(tree.score(&[5.0, 0.5], &[1.0, 0.5], &logs) > 0.0);
        }
        assert!((3560..3710).contains(&long), "{long} of 4000, 3636 expected");
    }

    #[test]
    fn the_score_is_that_of_the_sum_on_paper() {
        let (mut tree, logs) = (Tree::new(1, 1), Logs::new(8));
        [[0.0], [0.0], [1.0]].iter().for_each(|point| tree.offer(point, &[1.0], 0.0, 8));
        // At 3: the box [0, 1] and a gap of 2, cut off by two of three cuts at depth 0; else at the leaf of 1.
        // From all three, or from that one.
        let expected = (2.0 / 3.0 * (1.0 + DISPLACEMENT) + (1.0 / 3.0) * (0.5 + DISPLACEMENT / 3.0)) * 2.0;
        assert!((tree.score(&[3.0], &[1.0], &logs) - expected).abs() < 1e-9, "{}", tree.score(&[3.0], &[1.0], &logs));
        // At 0, which is there twice: depth 1, mass 2 of 3.
        let expected = (1.0 - 2.0 / 6.0) / (1.0 + 3.0_f64.log2()) * 2.0;
        assert!((tree.score(&[0.0], &[1.0], &logs) - expected).abs() < 1e-9);
        let mut shares = [0.0];
        tree.attribute(&[3.0], &[1.0], &logs, &mut shares);
        assert!((shares[0] - tree.score(&[3.0], &[1.0], &logs)).abs() < 1e-9);
    }
}
