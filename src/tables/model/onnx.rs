//! Networks in ONNX form, by tract; the only module that names it.
//!
//! A model has one input of 32-bit numbers. Its dimensions that are not fixed are 1: it is asked about one row at a time.
//! Weights in files beside the model are not read.

use tract_onnx::{
    pb::ModelProto,
    prelude::*,
    tract_hir::infer::{DimFact, Factoid, InferenceFact},
};

use super::{Asked, ModelError};
use crate::limits::{ONNX_OUTPUTS_MAX, ONNX_TREES_MAX};

/// Runs a row through the network.
type Plan = Box<dyn Fn(Tensor) -> TractResult<TVec<TValue>> + Send + Sync>;

/// A network that was read.
pub struct Network {
    run: Plan,
    shape: TVec<usize>,
    output: usize,
    operations: usize,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Network({} operations)", self.operations)
    }
}

fn wrong<T>(what: String) -> Result<T, ModelError> {
    Err(ModelError::new(what))
}

/// What tract says, on one line.
fn said(error: &TractError) -> String {
    format!("{error:#}").replace('\n', " ")
}

impl Network {
    /// Reads a file.
    ///
    /// # Errors
    /// What in it cannot be taken.
    pub fn read(mut bytes: &[u8], asked: &Asked) -> Result<Self, ModelError> {
        if asked.fill.is_none() {
            return wrong("has no branch for a missing input, as every network; set fill to what stands for one".into());
        }
        let onnx = tract_onnx::onnx().with_ignore_output_shapes(true);
        let proto = match onnx.proto_model_for_read(&mut bytes) {
            Ok(proto) => proto,
            Err(error) => return wrong(format!("is no ONNX after all ({}); copy it anew", said(&error))),
        };
        let trees = trees_of(&proto);
        if trees > ONNX_TREES_MAX {
            return wrong(format!(
                "has {trees} trees, and in ONNX form at most {ONNX_TREES_MAX} are fast enough; save it as LightGBM's text (docs/MODELS.md)"
            ));
        }
        let operations = proto.graph.as_ref().map_or(0, |graph| graph.node.len());
        let unusable =
            |error: TractError| ModelError::new(format!("cannot be used: {}; export it with opset 13 and one input", said(&error)));
        let model = onnx.model_for_proto_model(&proto).map_err(unusable)?;
        let sources = model.input_outlets().map_err(unusable)?.len();
        if sources != 1 {
            return wrong(format!("has {sources} inputs, and it must have one, of all numbers; export it anew"));
        }
        let shape = shape_of(model.input_fact(0).map_err(unusable)?, asked.inputs.len());
        let numbers: usize = shape.iter().product();
        if numbers != asked.inputs.len() {
            let named = asked.inputs.len();
            return wrong(format!(
                "takes {numbers} numbers (shape {shape:?}), and inputs names {named}; name them in the order of its training"
            ));
        }
        let plan = model
            .with_input_fact(0, f32::fact(shape.clone()).into())
            .and_then(|model| model.into_optimized())
            .and_then(|model| model.into_runnable())
            .map_err(unusable)?;
        let run: Plan = Box::new(move |row| plan.run(tvec!(row.into_tvalue())));
        let network = Self { run, shape, output: asked.output, operations };
        let found = network.numbers(&vec![0.0; numbers]).map_err(unusable)?;
        if found.len() > ONNX_OUTPUTS_MAX || asked.output >= found.len() {
            let (count, output) = (found.len(), asked.output);
            return wrong(format!("gives {count} numbers, and output is {output}; they count from 0, over all outputs"));
        }
        Ok(network)
    }

    /// All numbers that it gives, output after output.
    fn numbers(&self, values: &[f64]) -> TractResult<Vec<f32>> {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        let mut numbers = Vec::new();
        for output in (self.run)(Tensor::from_shape(&self.shape, &values)?)? {
            let output = output.cast_to::<f32>()?;
            numbers.extend_from_slice(output.try_as_plain_ram()?.as_slice::<f32>()?);
        }
        Ok(numbers)
    }

    /// The network's answer; `None` if it gives none.
    ///
    /// - `values`: one for each input, none missing.
    pub fn answer(&self, values: &[f64]) -> Option<f64> {
        self.numbers(values).ok()?.get(self.output).copied().map(f64::from)
    }

    /// How many operations the file has.
    pub fn operations(&self) -> usize {
        self.operations
    }
}

/// The shape of the input: what is not fixed is 1; without a shape, one row.
fn shape_of(fact: &InferenceFact, inputs: usize) -> TVec<usize> {
    let fixed = |dim: &DimFact| dim.concretize().and_then(|dim| usize::try_from(dim.to_i64().ok()?).ok());
    let shape: TVec<usize> = fact.shape.dims().map(|dim| fixed(dim).unwrap_or(1)).collect();
    if shape.is_empty() { tvec![1, inputs] } else { shape }
}

/// Trees of all ensembles.
fn trees_of(proto: &ModelProto) -> usize {
    let nodes = proto.graph.iter().flat_map(|graph| &graph.node).filter(|node| node.op_type.starts_with("TreeEnsemble"));
    let ids =
        nodes.flat_map(|node| &node.attribute).filter(|attribute| attribute.name == "nodes_treeids" || attribute.name == "tree_roots");
    ids.map(|attribute| attribute.ints.iter().collect::<std::collections::BTreeSet<_>>().len()).sum()
}
