//! Trees of decisions, laid out to be asked fast.
//!
//! A tree asks one question at each node: is this value at most this threshold? What LightGBM asks beyond that (where a
//! missing value goes, whether zero counts as missing, whether a category is in a set) is answered once a row, not once a
//! node: every way in which some node looks at an input is a *column*, and a column holds a number with which the plain
//! question comes out right:
//!
//! | a node wants                      | the column holds                                    |
//! |-----------------------------------|-----------------------------------------------------|
//! | missing goes right                | the value; NaN is at most nothing                   |
//! | missing goes left                 | the value, −∞ for a missing one                     |
//! | missing is zero                   | the value, 0 for a missing one                      |
//! | zero and missing go left or right | the value, −∞ or NaN for these                      |
//! | a category of a set goes left     | −∞ for one of the set, else NaN                     |
//!
//! Then eight trees are walked abreast without a branch that depends on data: while one waits for its node, seven others
//! have theirs. A processor guesses the way through one tree wrongly every few nodes, which costs more than all of this.
//! Leaves are added in the order of their trees, so that the sum has the same bits as LightGBM's.

use super::ModelError;

/// Trees that are walked abreast.
const LANES: usize = 8;

/// Values this near to zero are zero to LightGBM: `kZeroThreshold`, a single-precision number.
const ZERO: f64 = 1e-35_f32 as f64;

/// How a node looks at its input.
#[derive(Clone, Debug, PartialEq)]
pub enum Look {
    /// A missing value goes right.
    MissingRight,
    /// A missing value goes left.
    MissingLeft,
    /// A missing value is zero.
    MissingZero,
    /// Zero and a missing value go left.
    ZeroLeft,
    /// Zero and a missing value go right.
    ZeroRight,
    /// A category of this set goes left; bit *n* of the words is category *n*.
    Among(Vec<u32>),
}

impl Look {
    /// What stands in the column, for an input's value.
    fn at(&self, value: f64) -> f64 {
        match self {
            Self::MissingRight => value,
            Self::MissingLeft if value.is_nan() => f64::NEG_INFINITY,
            Self::MissingZero if value.is_nan() => 0.0,
            Self::ZeroLeft if value.is_nan() || value == 0.0 => f64::NEG_INFINITY,
            Self::ZeroRight if value == 0.0 => f64::NAN,
            Self::Among(set) => match is_among(set, value) {
                true => f64::NEG_INFINITY,
                false => f64::NAN,
            },
            _ => value,
        }
    }
}

/// True if a value, without its fraction, is a category of the set.
fn is_among(set: &[u32], value: f64) -> bool {
    if value.is_nan() {
        return false;
    }
    let category = value as i64;
    usize::try_from(category).is_ok_and(|category| set.get(category / 32).is_some_and(|word| word >> (category % 32) & 1 == 1))
}

/// An input, looked at in one way.
#[derive(Clone, Debug, PartialEq)]
struct Column {
    input: usize,
    look: Look,
}

/// Sixteen bytes, four to a cache line.
#[derive(Clone, Copy, Debug)]
struct Node {
    threshold: f64,
    column: u16,
    /// Left and right: a node of the same tree, or the complement of a leaf.
    below: [i16; 2],
}

/// What stands where no node is. Never decides anything.
const NONE: Node = Node { threshold: 0.0, column: 0, below: [-1, -1] };

/// One tree: where its nodes and leaves begin, and where its walk does.
#[derive(Clone, Copy, Debug)]
struct Tree {
    nodes: usize,
    leaves: usize,
    /// As in [`Node::below`].
    root: i16,
}

/// One node as it is read.
#[derive(Clone, Debug)]
pub struct Split {
    pub input: usize,
    pub look: Look,
    /// Left if the column is at most this; of no meaning for [`Look::Among`].
    pub threshold: f64,
    /// Left and right: a later node of the tree, or the complement of a leaf.
    pub below: [i32; 2],
}

/// Trees whose leaves are summed.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    columns: Vec<Column>,
    nodes: Vec<Node>,
    trees: Vec<Tree>,
    leaves: Vec<f64>,
}

impl Forest {
    /// Adds a tree. Its first split is its root; without one, its only leaf is all it has.
    ///
    /// # Errors
    /// What of it is no tree: a child that comes before its parent or is not there, a leaf that is none.
    pub fn add(&mut self, splits: &[Split], leaves: &[f64]) -> Result<(), ModelError> {
        let wrong = |what: String| Err(ModelError::new(format!("is no tree: {what}; copy the file anew")));
        if splits.len() + 1 != leaves.len() {
            return wrong(format!("{} splits do not part {} leaves", splits.len(), leaves.len()));
        }
        if let Some(value) = leaves.iter().find(|value| !value.is_finite()) {
            return wrong(format!("a leaf holds {value}"));
        }
        let tree = Tree { nodes: self.nodes.len(), leaves: self.leaves.len(), root: if splits.is_empty() { -1 } else { 0 } };
        for (n, split) in splits.iter().enumerate() {
            let mut below = [0; 2];
            for (slot, child) in below.iter_mut().zip(split.below) {
                let (last, index) = if child < 0 { (leaves.len(), !child) } else { (splits.len(), child) };
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                // A walk goes to later nodes only, so it ends.
                if index >= last || (child >= 0 && index <= n) {
                    return wrong(format!("node {n} leads to {child}, which is nothing below it"));
                }
                *slot = i16::try_from(child)
                    .map_err(|_| ModelError::new(format!("has {} leaves, which are too many; train it with fewer", leaves.len())))?;
            }
            if split.threshold.is_nan() {
                return wrong(format!("node {n} has no threshold"));
            }
            // What is in a set is −∞, and what is not is no number: any threshold parts the two.
            let threshold = if matches!(split.look, Look::Among(_)) { 0.0 } else { split.threshold };
            let column = self.column(split.input, &split.look)?;
            self.nodes.push(Node { threshold, column, below });
        }
        self.leaves.extend_from_slice(leaves);
        self.trees.push(tree);
        Ok(())
    }

    fn column(&mut self, input: usize, look: &Look) -> Result<u16, ModelError> {
        let at = self.columns.iter().position(|column| column.input == input && column.look == *look).unwrap_or_else(|| {
            self.columns.push(Column { input, look: look.clone() });
            self.columns.len() - 1
        });
        u16::try_from(at).map_err(|_| ModelError::new("has more than 65,536 different sets of categories; train it with fewer".into()))
    }

    /// How many trees there are.
    pub fn trees(&self) -> usize {
        self.trees.len()
    }

    /// The sum of the leaves that a row ends in.
    ///
    /// - `values`: one for each input; NaN is missing.
    /// - `columns`: scratch.
    pub fn sum(&self, values: &[f64], columns: &mut Vec<f64>) -> f64 {
        columns.clear();
        columns.extend(self.columns.iter().map(|column| {
            let value = values.get(column.input).copied().unwrap_or(f64::NAN);
            column.look.at(if value.abs() <= ZERO { 0.0 } else { value })
        }));
        let mut sum = 0.0;
        for trees in self.trees.chunks(LANES) {
            let ends = self.walk(trees, columns);
            for (tree, end) in trees.iter().zip(ends) {
                let leaf = usize::try_from(!end).unwrap_or(0);
                sum += self.leaves.get(tree.leaves + leaf).copied().unwrap_or(0.0);
            }
        }
        sum
    }

    /// The leaf of each tree, as its complement.
    fn walk(&self, trees: &[Tree], columns: &[f64]) -> [i16; LANES] {
        let mut at = [-1_i16; LANES];
        let mut from = [0_usize; LANES];
        for ((at, from), tree) in at.iter_mut().zip(&mut from).zip(trees) {
            (*at, *from) = (tree.root, tree.nodes);
        }
        loop {
            let mut is_open = false;
            for (at, from) in at.iter_mut().zip(from) {
                let now = *at;
                // A lane that has its leaf looks at some node all the same: to spare it would be a branch.
                let node = self.nodes.get(from + usize::try_from(now).unwrap_or(0)).unwrap_or(&NONE);
                let value = columns.get(usize::from(node.column)).copied().unwrap_or(0.0);
                let [left, right] = node.below;
                let next = if value <= node.threshold { left } else { right };
                *at = if now < 0 { now } else { next };
                is_open |= *at >= 0;
            }
            if !is_open {
                return at;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The slow twin: LightGBM's rules, node by node.
    mod naive {
        use super::*;

        pub fn leaf(splits: &[Split], values: &[f64]) -> usize {
            let mut at = if splits.is_empty() { -1 } else { 0 };
            while at >= 0 {
                let split = &splits[at as usize];
                at = split.below[usize::from(!goes_left(split, values[split.input]))];
            }
            !at as usize
        }

        fn goes_left(split: &Split, value: f64) -> bool {
            let is_zero = value.abs() <= ZERO;
            // The library takes no value of a row that is as near to zero.
            let value = if is_zero { 0.0 } else { value };
            let plain = |value: f64| value <= split.threshold;
            match &split.look {
                Look::MissingRight => !value.is_nan() && plain(value),
                Look::MissingLeft => value.is_nan() || plain(value),
                Look::MissingZero => plain(if value.is_nan() { 0.0 } else { value }),
                Look::ZeroLeft => value.is_nan() || is_zero || plain(value),
                Look::ZeroRight => !(value.is_nan() || is_zero) && plain(value),
                Look::Among(set) => {
                    let inside = |n: u32| set.get(n as usize / 32).is_some_and(|word| word & (1 << (n % 32)) != 0);
                    !value.is_nan() && value > -1.0 && value < 64.0 && inside(value as u32)
                }
            }
        }
    }

    const FEW: [f64; 9] = [f64::NAN, 0.0, 1e-36, -1e-36, -0.5, 0.5, 1.0, 33.9, f64::INFINITY];

    fn look() -> impl Strategy<Value = Look> {
        prop_oneof![
            Just(Look::MissingRight),
            Just(Look::MissingLeft),
            Just(Look::MissingZero),
            Just(Look::ZeroLeft),
            Just(Look::ZeroRight),
            prop::collection::vec(any::<u32>(), 0..3).prop_map(Look::Among),
        ]
    }

    /// Trees as LightGBM grows them: each split takes a leaf and makes it a node with two.
    fn tree() -> impl Strategy<Value = (Vec<Split>, Vec<f64>)> {
        let split = (0_usize..3, look(), prop::sample::select(vec![-0.5, 0.0, 0.5, 1.0, 40.0]), any::<prop::sample::Index>());
        prop::collection::vec(split, 0..12).prop_map(|grown| {
            let mut splits: Vec<Split> = Vec::new();
            for (input, look, threshold, which) in grown {
                let node = splits.len() as i32;
                let leaf = which.index(splits.len() + 1) as i32;
                if let Some(place) = splits.iter_mut().flat_map(|split| &mut split.below).find(|child| **child == !leaf) {
                    *place = node;
                }
                splits.push(Split { input, look, threshold, below: [!leaf, !(node + 1)] });
            }
            let leaves = (0..=splits.len()).map(|n| 1.0 + n as f64 / 7.0).collect();
            (splits, leaves)
        })
    }

    proptest! {
        #[test]
        fn trees_abreast_end_where_each_ends_alone(
            trees in prop::collection::vec(tree(), 0..20),
            rows in prop::collection::vec(prop::collection::vec(prop::sample::select(FEW.to_vec()), 3), 1..8),
        ) {
            let mut forest = Forest::default();
            for (splits, leaves) in &trees {
                forest.add(splits, leaves).unwrap();
            }
            let mut scratch = Vec::new();
            for row in rows {
                let sum = trees.iter().fold(0.0, |sum, (splits, leaves)| sum + leaves[naive::leaf(splits, &row)]);
                prop_assert_eq!(forest.sum(&row, &mut scratch).to_bits(), f64::to_bits(sum));
            }
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let split = |below| Split { input: 0, look: Look::MissingRight, threshold: 1.0, below };
        let cases: [(&[Split], &[f64], &str); 5] = [
            (&[split([0, -1])], &[1.0, 2.0], "node 0 leads to 0"),
            (&[split([-1, 7])], &[1.0, 2.0], "node 0 leads to 7"),
            (&[split([-1, -9])], &[1.0, 2.0], "node 0 leads to -9"),
            (&[split([-1, -2])], &[1.0], "1 splits do not part 1 leaves"),
            (&[], &[f64::NAN], "a leaf holds NaN"),
        ];
        for (splits, leaves, expected) in cases {
            let error = Forest::default().add(splits, leaves).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
