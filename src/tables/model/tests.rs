//! Models and answers of the real library (tools/models/train.py made them): every answer has the same bits.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, reason = "tests state what must hold")]

use std::{fs, path::PathBuf};

use super::*;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/model"))
}

#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
fn read(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A model with as many inputs as its rows have, none of them scaled.
pub(super) fn asked(inputs: usize) -> Asked {
    let inputs = INPUTS.iter().take(inputs).filter_map(|name| Input::of(name)).map(|input| Wanted { input, mean: 0.0, scale: 1.0 });
    Asked { format: None, inputs: inputs.collect(), fill: None, output: 0, weight: 1.0 }
}

/// A shelf with one model of one tree: 0.25 where the input is at most the threshold, else 0.75.
pub(crate) fn shelf_with(name: &str, input: &str, threshold: f64) -> crate::tables::Shelf {
    let text = format!(
        "tree\nversion=v4\nmax_feature_idx=0\nobjective=regression\nfeature_names={input}\ntree_sizes=9\n\nTree=0\nnum_leaves=2\nnum_cat=0\n\
         split_feature=0\nthreshold={threshold}\ndecision_type=2\nleft_child=-1\nright_child=-2\nleaf_value=0.25 0.75\n\nend of trees\n"
    );
    let wanted = Wanted { input: Input::of(input).unwrap(), mean: 0.0, scale: 1.0 };
    let model =
        Model::read(text.as_bytes(), &Asked { inputs: vec![wanted], ..asked(1) }).unwrap_or_else(|error| panic!("the model {error}"));
    let mut shelf = crate::tables::Shelf::default();
    shelf.place::<Model>(name);
    shelf.of::<Model>(name).unwrap().put(std::sync::Arc::new(model));
    shelf
}

/// Rows with their answers: values as text, separated by blanks, then `=` and the bits of the answer.
fn cases(name: &str) -> Vec<(Vec<f64>, u64)> {
    let text = String::from_utf8(read(name)).unwrap();
    let case = |line: &str| {
        let (row, answer) = line.split_once(" = ").unwrap_or_else(|| panic!("{name}: {line}"));
        let row = row.split(' ').map(|value| value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))).collect();
        (row, u64::from_str_radix(answer, 16).unwrap_or_else(|_| panic!("{name}: {answer}")))
    };
    text.lines().map(case).collect()
}

fn row_of(values: &[f64]) -> Row {
    let mut row = Row::default();
    for (name, value) in INPUTS.iter().zip(values) {
        row.set(Input::of(name).unwrap(), *value);
    }
    row
}

#[test]
fn answers_have_the_bits_of_the_library() {
    let names = ["binary", "regression", "sqrt", "missing", "zero", "category", "forest", "dart", "stump"];
    for name in names {
        let cases = cases(&format!("{name}.rows"));
        assert!(cases.len() >= 100, "{name}: {} rows", cases.len());
        let model = Model::read(&read(&format!("{name}.txt")), &asked(cases[0].0.len())).unwrap_or_else(|error| panic!("{name} {error}"));
        let mut desk = Desk::default();
        for (values, answer) in &cases {
            let found = model.score(&row_of(values), &mut desk).unwrap_or(f64::NAN);
            assert_eq!(found.to_bits(), *answer, "{name}: {found} and not {} for {values:?}", f64::from_bits(*answer));
        }
    }
}

#[test]
fn what_another_objective_trained_is_refused_by_name() {
    for (name, expected) in [
        ("multiclass.txt", "has objective=multiclass num_class:3; binary and regression are read"),
        ("poisson.txt", "has objective=poisson; binary and regression are read"),
        ("linear.txt", "has linear leaves (linear_tree)"),
    ] {
        let error = Model::read(&read(name), &asked(10)).unwrap_err().to_string();
        assert!(error.contains(expected), "{name} {error}");
    }
}

#[test]
fn a_file_that_is_cut_or_changed_anywhere_is_refused_or_read_and_never_panics() {
    let whole = read("category.txt");
    let inputs = cases("category.rows")[0].0.len();
    for end in 0..whole.len() {
        let is_read = Model::read(&whole[..end], &asked(inputs)).is_ok();
        let trees_end = whole.windows(12).position(|window| window == b"end of trees").unwrap() + 12;
        assert_eq!(is_read, end >= trees_end, "cut at {end}");
    }
    let mut desk = Desk::default();
    for at in 0..whole.len() {
        for byte in [b'9', b'-', b' ', b'\n', 0xff] {
            let mut changed = whole.clone();
            changed[at] = byte;
            if let Ok(model) = Model::read(&changed, &asked(inputs)) {
                model.score(&row_of(&[1.0; 10]), &mut desk);
            }
        }
    }
}

#[test]
fn models_answer_together_by_weight_and_one_that_lacks_inputs_is_left_out() {
    use std::sync::Arc;

    use crate::tables::Shelf;

    let mut shelf = Shelf::default();
    let put = |shelf: &Shelf, name: &str, asked: Asked, file: &str| {
        shelf.of::<Model>(name).unwrap().put(Arc::new(Model::read(&read(file), &asked).unwrap()));
    };
    for name in ["a", "b", "w"] {
        shelf.place::<Model>(name);
    }
    let names: Vec<String> = ["a", "b", "w", "none"].map(str::to_owned).to_vec();
    let mut event = Models::new(&shelf, &names, Scope::Event);
    let mut window = Models::new(&shelf, &names, Scope::Window);
    let row = row_of(&[0.9; 10]);
    assert_eq!((event.ask(&row), event.answers().count()), (None, 0), "no table is filled yet");
    put(&shelf, "a", asked(10), "binary.txt");
    put(&shelf, "b", Asked { weight: 3.0, ..asked(10) }, "missing.txt");
    let mut of_window = asked(10);
    of_window.inputs[0].input = Input::of("level").unwrap();
    put(&shelf, "w", of_window, "binary.txt");
    let mean = event.ask(&row).unwrap();
    let answers: Vec<(String, f64)> = event.answers().map(|(name, score)| (name.to_owned(), score)).collect();
    assert_eq!(answers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(mean, (answers[0].1 + 3.0 * answers[1].1) / 4.0);
    window.ask(&row).unwrap();
    assert_eq!(window.answers().count(), 3);
}

/// Networks, and ensembles of trees, as other libraries export them; answers of onnxruntime.
#[cfg(feature = "onnx")]
mod onnx {
    use super::*;

    fn network(inputs: usize, output: usize) -> Asked {
        Asked { fill: Some(0.0), output, ..asked(inputs) }
    }

    #[test]
    fn answers_are_those_of_onnxruntime() {
        for (name, output) in [("dense", 1), ("lstm", 0), ("trees", 2)] {
            let model = Model::read(&read(&format!("{name}.onnx")), &network(10, output)).unwrap_or_else(|error| panic!("{name} {error}"));
            let mut desk = Desk::default();
            let cases = cases(&format!("{name}.rows"));
            assert_eq!(cases.len(), 40);
            for (values, answer) in cases {
                let found = model.score(&row_of(&values), &mut desk).unwrap_or(f64::NAN);
                let wanted = f64::from_bits(answer);
                assert!((found - wanted).abs() < 1e-6, "{name}: {found} and not {wanted} for {values:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_asked_is_told_with_the_remedy() {
        for (name, asked, expected) in [
            ("forest40.onnx", network(10, 2), "has 40 trees, and in ONNX form at most 32"),
            ("dense.onnx", asked(10), "has no branch for a missing input"),
            ("dense.onnx", network(9, 1), "takes 10 numbers"),
            ("dense.onnx", network(10, 2), "gives 2 numbers, and output is 2"),
        ] {
            let error = Model::read(&read(name), &asked).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(';'), "{name} {error}");
        }
    }

    #[test]
    fn a_file_that_is_cut_is_refused() {
        let whole = read("dense.onnx");
        for end in (0..whole.len() - 1).step_by(7) {
            let error = Model::read(&whole[..end], &network(10, 1)).unwrap_err().to_string();
            assert!(error.contains(';'), "{end}: {error}");
        }
    }
}

#[test]
#[cfg(not(feature = "onnx"))]
fn a_build_without_onnx_says_so() {
    let error = Model::read(&read("dense.onnx"), &asked(10)).unwrap_err().to_string();
    assert!(error.contains("this build has no feature onnx; install the package"), "{error}");
}
