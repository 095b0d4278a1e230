//! What one answer of a model costs: a hundred trees of 31 leaves, as LightGBM trains them by default, beside the same trees
//! walked one after the other. The bar is 3.6 µs an answer.

use divan::{Bencher, counter::ItemsCount};
use shipper::tables::model::{Asked, Desk, INPUTS, Input, Model, Row, Wanted};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const ROWS: usize = 512;
const FEATURES: usize = 10;

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One tree, grown leaf by leaf at random, which makes some branches long, as real ones are.
struct Tree {
    features: Vec<usize>,
    thresholds: Vec<f64>,
    below: Vec<[i32; 2]>,
    leaves: Vec<f64>,
}

fn tree(dice: &mut Dice, leaves: usize) -> Tree {
    let mut tree = Tree { features: Vec::new(), thresholds: Vec::new(), below: Vec::new(), leaves: Vec::new() };
    for node in 0..leaves - 1 {
        let leaf = !(dice.below(node + 1) as i32);
        if let Some(place) = tree.below.iter_mut().flatten().find(|child| **child == leaf) {
            *place = node as i32;
        }
        tree.features.push(dice.below(FEATURES));
        tree.thresholds.push(dice.unit());
        tree.below.push([leaf, !(node as i32 + 1)]);
    }
    tree.leaves = (0..leaves).map(|_| dice.unit() * 0.2 - 0.1).collect();
    tree
}

fn trees(count: usize) -> Vec<Tree> {
    let mut dice = Dice(7);
    (0..count).map(|_| tree(&mut dice, 31)).collect()
}

fn words<T: ToString>(values: impl Iterator<Item = T>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

/// The trees as LightGBM writes them.
fn text(trees: &[Tree]) -> String {
    let mut text = format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=9\nobjective=binary sigmoid:1\n\
         feature_names={}\ntree_sizes={}\n\n",
        words((0..FEATURES).map(|n| format!("Column_{n}"))),
        words(trees.iter().map(|_| 1))
    );
    for (n, tree) in trees.iter().enumerate() {
        text += &format!(
            "Tree={n}\nnum_leaves={}\nnum_cat=0\nsplit_feature={}\nthreshold={}\ndecision_type={}\nleft_child={}\nright_child={}\n\
             leaf_value={}\nis_linear=0\nshrinkage=0.1\n\n",
            tree.leaves.len(),
            words(tree.features.iter()),
            words(tree.thresholds.iter()),
            words(tree.features.iter().map(|_| 2)),
            words(tree.below.iter().map(|below| below[0])),
            words(tree.below.iter().map(|below| below[1])),
            words(tree.leaves.iter()),
        );
    }
    text + "end of trees\n"
}

fn rows() -> Vec<[f64; FEATURES]> {
    let mut dice = Dice(11);
    (0..ROWS).map(|_| std::array::from_fn(|_| dice.unit())).collect()
}

fn asked() -> Asked {
    let input = |name: &&str| Input::of(name).map(|input| Wanted { input, mean: 0.0, scale: 1.0 });
    Asked { format: None, inputs: INPUTS.iter().take(FEATURES).filter_map(input).collect(), fill: None, output: 0, weight: 1.0 }
}

/// Ours: rows in, answers out.
#[divan::bench(args = [20, 100, 500])]
fn answers(bencher: Bencher<'_, '_>, count: usize) {
    let model = Model::read(text(&trees(count)).as_bytes(), &asked()).unwrap_or_else(|error| panic!("the model {error}"));
    let rows: Vec<Row> = rows().iter().map(|row| Row::of_event(row, 0x3ff)).collect();
    let mut desk = Desk::default();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(move || rows.iter().filter_map(|row| model.score(row, &mut desk)).sum::<f64>());
}

/// The reference: one tree after the other, one node after the other.
#[divan::bench(args = [20, 100, 500])]
fn one_by_one(bencher: Bencher<'_, '_>, count: usize) {
    let (trees, rows) = (trees(count), rows());
    bencher.counter(ItemsCount::new(ROWS)).bench_local(move || {
        let leaf = |tree: &Tree, row: &[f64; FEATURES]| {
            let mut at = 0;
            while at >= 0 {
                let node = at as usize;
                at = tree.below[node][usize::from(row[tree.features[node]] > tree.thresholds[node])];
            }
            tree.leaves[!at as usize]
        };
        rows.iter().map(|row| 1.0 / (1.0 + (-trees.iter().map(|tree| leaf(tree, row)).sum::<f64>()).exp())).sum::<f64>()
    });
}

/// Reading the file, which a reload does.
#[divan::bench]
fn read(bencher: Bencher<'_, '_>) {
    let text = text(&trees(100));
    bencher.bench(|| Model::read(text.as_bytes(), &asked()).map(|model| model.about()));
}
