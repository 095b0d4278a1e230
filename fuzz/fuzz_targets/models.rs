//! Any bytes as a model's file: read or refused with a remedy, and what was read answers any row.

#![no_main]

use libfuzzer_sys::fuzz_target;
use shipper::tables::model::{Asked, Desk, INPUTS, Input, Model, Row, Wanted};

fuzz_target!(|bytes: &[u8]| {
    let Some((count, file)) = bytes.split_first() else { return };
    let input = |name: &&str| Input::of(name).map(|input| Wanted { input, mean: 0.0, scale: 1.0 });
    let inputs = INPUTS.iter().take(1 + usize::from(*count) % INPUTS.len()).filter_map(input).collect();
    match Model::read(file, &Asked { format: None, inputs, fill: None, output: 0, weight: 1.0 }) {
        Err(error) => assert!(error.to_string().contains(';'), "{error}"),
        Ok(model) => {
            let mut desk = Desk::default();
            let mut row = Row::default();
            for value in [f64::NAN, 0.0, -1.0, 31.5, 1e300, f64::INFINITY] {
                INPUTS.iter().filter_map(|name| Input::of(name)).for_each(|input| row.set(input, value));
                assert!(model.score(&row, &mut desk).is_none_or(f64::is_finite));
            }
        }
    }
});
