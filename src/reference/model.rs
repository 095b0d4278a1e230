//! `model`: a model that the operator trained, from a file in LightGBM's text form or in ONNX.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Finding, Kind, Level, Spec, Trouble, finding, read};
use crate::{
    clock::{Clock, SystemClock},
    io::Disk,
    limits::{MODEL_FILE_BYTES, MODEL_INPUTS_MAX, MODELS_MAX, ONNX_OUTPUTS_MAX},
    register::{Field, Section, Type, section::nearest},
    tables::{
        Shelf,
        model::{Asked, Desk, Format, INPUTS, Input, Model, Row, Wanted},
    },
};

/// The kind.
pub struct ModelTables;

static FIELDS: &[Field] = &[
    Field::required(
        "path",
        Type::Path,
        "The file: LightGBM's text form (`save_model`), or ONNX in builds with that feature. It is read again when it changes: \
         replace it by a rename. Pickles and HDF5 are refused, since reading them executes code; docs/MODELS.md says how to export.",
    ),
    Field::new("format", Type::Choice(&["auto", "lightgbm", "onnx"]), "\"auto\"", "The form of the file; auto: by what it holds."),
    Field::required(
        "inputs",
        Type::Texts,
        "Names of the inputs, in the order in which the model was trained: the ten features, what a window has beside them, and \
         the numbers of the detector's vector (docs/MODELS.md has all). With the ten features alone it can be asked about events as well.",
    ),
    Field::optional("mean", Type::Map, "By name of an input: what is taken off it first. A name that is missing has 0."),
    Field::optional("scale", Type::Map, "By name of an input: what it is divided by then. A name that is missing has 1."),
    Field::optional(
        "fill",
        Type::Number,
        "Stands for an input that is missing, before mean and scale. Unset: LightGBM's own branch for missing values; ONNX must have it.",
    ),
    Field::new(
        "output",
        Type::Int { min: 0, max: ONNX_OUTPUTS_MAX as i64 - 1 },
        "0",
        "Which of all the numbers that the model gives is its score, from 0; they are counted over its outputs in their order.",
    ),
    Field::new("weight", Type::Number, "1", "Weight of its score, where several models are asked: the mean over those that answer."),
    Field::new(
        "model_budget_us",
        Type::Int { min: 1, max: 1_000_000 },
        "200",
        "Microseconds that one answer may take; a model that needs more is refused when it is read.",
    ),
];

impl Kind for ModelTables {
    fn name(&self) -> &'static str {
        "model"
    }
    fn about(&self) -> &'static str {
        "a trained model that scores events or windows: LightGBM's text form, or ONNX in builds with feature onnx"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn tables_max(&self) -> usize {
        MODELS_MAX
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        let format = match section.choice("format") {
            "lightgbm" => Some(Format::LightGbm),
            "onnx" => Some(Format::Onnx),
            _ => None,
        };
        let inputs = inputs(section);
        let weight = section.number("weight");
        if weight <= 0.0 {
            section.wrong("weight", format!("{weight} is no weight; use a number above 0, or leave the model out"));
        }
        Box::new(Settings {
            path: section.path("path"),
            asked: Asked {
                format,
                inputs,
                fill: section.opt_number("fill"),
                output: usize::try_from(section.int("output")).unwrap_or(0),
                weight,
            },
            budget: Duration::from_micros(u64::try_from(section.int("model_budget_us")).unwrap_or(0)),
        })
    }
}

/// The inputs with what each is scaled by.
fn inputs(section: &mut Section<'_>) -> Vec<Wanted> {
    let names = section.texts("inputs");
    if section.is_set("inputs") && !(1..=MODEL_INPUTS_MAX).contains(&names.len()) {
        section.wrong("inputs", format!("there are {}; name 1 to {MODEL_INPUTS_MAX}", names.len()));
    }
    let mut wanted = Vec::new();
    for name in &names {
        match Input::of(name) {
            Some(input) => wanted.push(Wanted { input, mean: 0.0, scale: 1.0 }),
            None => section.wrong("inputs", unknown(name)),
        }
    }
    for setting in ["mean", "scale"] {
        for (name, value) in section.map(setting) {
            let value: Option<f64> = value.trim().parse().ok().filter(|x: &f64| x.is_finite() && (setting == "mean" || *x != 0.0));
            let Some(value) = value else {
                let what = if setting == "mean" { "a number" } else { "a number other than 0" };
                section.wrong(setting, format!("{name} is not {what}"));
                continue;
            };
            let known = names.contains(&name);
            if !known {
                section.wrong(setting, format!("{name:?} is none of inputs; name one of them"));
            }
            for wanted in wanted.iter_mut().filter(|wanted| wanted.input.name() == name) {
                *(if setting == "mean" { &mut wanted.mean } else { &mut wanted.scale }) = value;
            }
        }
    }
    wanted
}

fn unknown(name: &str) -> String {
    // Tables of training data often leave out what the mean was taken of.
    let with_mean = Input::of(&format!("{name}_mean")).map(Input::name);
    match with_mean.or_else(|| nearest(name, INPUTS.iter().copied())) {
        Some(known) => format!("no input {name:?}; did you mean {known:?}?"),
        None => format!("no input {name:?}; known: {}", INPUTS.join(", ")),
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: PathBuf,
    asked: Asked,
    budget: Duration,
}

/// Answers whose shortest time counts: a machine that is busy with something else is no fault of the model.
const ROUNDS: u32 = 32;

impl Settings {
    fn read(&self, disk: &dyn Disk) -> Result<(Model, String), Trouble> {
        let shown = self.path.display();
        let broken = |what: &dyn std::fmt::Display| Trouble::Broken(format!("the model {shown} {what}"));
        let bytes = read(disk, &self.path, "model", MODEL_FILE_BYTES)?;
        let model = Model::read(&bytes, &self.asked).map_err(|error| broken(&error))?;
        let took = time_of(&model).ok_or_else(|| broken(&"gives no number for a row of zeros; train it anew, or set fill and scale"))?;
        if took > self.budget {
            let (took, budget) = (took.as_micros(), self.budget.as_micros());
            return Err(broken(&format_args!("takes {took} µs for an answer, and model_budget_us is {budget}; train a smaller one")));
        }
        let told = format!("{}, {:.1} µs an answer", model.about(), took.as_secs_f64() * 1e6);
        Ok((model, told))
    }
}

/// The shortest time that an answer takes; `None` if the model does not answer.
fn time_of(model: &Model) -> Option<Duration> {
    let mut row = Row::default();
    INPUTS.iter().filter_map(|name| Input::of(name)).for_each(|input| row.set(input, 0.0));
    let clock = SystemClock::new();
    let mut desk = Desk::default();
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let begin = clock.mono();
        std::hint::black_box(model.score(std::hint::black_box(&row), &mut desk))?;
        least = least.min(clock.mono().saturating_sub(begin));
    }
    Some(Duration::from_nanos(least))
}

impl Spec for Settings {
    fn place(&self, name: &str, shelf: &mut Shelf) {
        shelf.place::<Model>(name);
    }

    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, _state_dir: &Path) -> Result<String, Trouble> {
        let (model, told) = self.read(disk)?;
        if let Some(held) = shelf.of::<Model>(name) {
            held.put(Arc::new(model));
        }
        Ok(told)
    }

    fn files(&self, _disk: &dyn Disk, _state_dir: &Path) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn look_every(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn check(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<Finding> {
        match self.read(disk) {
            Ok((_, told)) => vec![finding(Ok(told))],
            // A model that was named on purpose and is not there is a mistake.
            Err(trouble) => vec![Finding { level: Level::Bad, text: trouble.to_string() }],
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        io::disk::RealDisk,
        register::{Errors, Node},
    };

    const FEATURES: &str = "inputs = ['number_of_logins_mean', 'cpu_usage_mean']\n";

    fn parse(text: &str) -> (Box<dyn Spec>, String) {
        let node = Node::parse_toml(text).unwrap();
        let mut errors = Errors::default();
        let spec = ModelTables.parse(&mut Section::open("tables.m", &node, FIELDS, &[], &mut errors));
        (spec, errors.to_string())
    }

    /// One tree of two leaves: 0.25 where the first input is at most 0.5, else 0.75.
    pub(crate) fn stump(objective: &str) -> String {
        format!(
            "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\nobjective={objective}\n\
             feature_names=Column_0 Column_1\nfeature_infos=[0:1] [0:1]\ntree_sizes=9\n\n\
             Tree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nsplit_gain=1\nthreshold=0.5\ndecision_type=2\nleft_child=-1\n\
             right_child=-2\nleaf_value=0.25 0.75\nis_linear=0\nshrinkage=1\n\n\nend of trees\n\nparameters:\nend of parameters\n"
        )
    }

    #[test]
    fn a_model_is_read_asked_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.txt");
        fs::write(&path, stump("regression")).unwrap();
        let (spec, errors) = parse(&format!(
            "path = {path:?}\n{FEATURES}mean = {{ number_of_logins_mean = 10 }}\nscale = {{ number_of_logins_mean = 2 }}\n"
        ));
        assert_eq!(errors, "");
        let mut shelf = Shelf::default();
        spec.place("m", &mut shelf);
        let told = spec.load("m", &shelf, &RealDisk::new(), Path::new("/")).unwrap();
        assert!(told.starts_with("LightGBM, 1 trees, 2 inputs, for events and windows, "), "{told}");
        let score = |logins: f64| {
            let mut row = Row::default();
            row.set(Input::of("number_of_logins_mean").unwrap(), logins);
            shelf.of::<Model>("m").unwrap().get().unwrap().score(&row, &mut Desk::default())
        };
        // (x - 10) / 2 against 0.5.
        assert_eq!((score(11.0), score(11.1)), (Some(0.25), Some(0.75)));
        assert_eq!(spec.check(&RealDisk::new(), Path::new("/"))[0].level, Level::Good);
        fs::write(&path, stump("lambdarank")).unwrap();
        let trouble = spec.load("m", &shelf, &RealDisk::new(), Path::new("/")).unwrap_err().to_string();
        assert!(trouble.contains("has objective=lambdarank; binary and regression are read"), "{trouble}");
        assert_eq!(score(11.0), Some(0.25), "the one before stays");
    }

    #[test]
    fn what_cannot_be_used_is_told_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        let found = |bytes: &[u8], more: &str| {
            fs::write(&path, bytes).unwrap();
            let (spec, errors) = parse(&format!("path = {path:?}\n{FEATURES}{more}"));
            assert_eq!(errors, "");
            let finding = spec.check(&RealDisk::new(), Path::new("/")).remove(0);
            assert_eq!(finding.level, Level::Bad);
            finding.text
        };
        let text = stump("binary sigmoid:1");
        let renamed = text.replace("Column_0", "cpu_usage_mean");
        let lacking = text.replace("max_feature_idx=1", "max_feature_idx=2");
        let cases: [(&[u8], &str, &str); 5] = [
            (b"\x80\x04\x95", "", "is a pickle, which executes code"),
            (text.as_bytes(), "output = 1\n", "gives one number, and output is 1; remove output"),
            (renamed.as_bytes(), "", "was trained with cpu_usage_mean as input 0"),
            (text.split("end of trees").next().unwrap_or_default().as_bytes(), "", "is cut: it has no line `end of trees`"),
            (lacking.as_bytes(), "", "names 2 inputs and has 3"),
        ];
        for (bytes, more, expected) in cases {
            let text = found(bytes, more);
            assert!(text.contains(expected) && text.contains(';'), "{expected}: {text}");
        }
        let (spec, _) = parse(&format!("path = '/no/such/model'\n{FEATURES}"));
        assert!(spec.check(&RealDisk::new(), Path::new("/"))[0].text.contains("there is no model /no/such/model"));
    }

    #[test]
    fn settings_that_cannot_be_meant_are_told() {
        for (text, expected) in [
            ("path = 'x'\ninputs = ['cpu_usage']\n", "did you mean \"cpu_usage_mean\"?"),
            ("path = 'x'\ninputs = []\n", "name 1 to 64"),
            ("path = 'x'\ninputs = ['n']\nweight = 0\n", "0 is no weight"),
            ("path = 'x'\ninputs = ['n']\nscale = { n = 0 }\n", "n is not a number other than 0"),
            ("path = 'x'\ninputs = ['n']\nmean = { kinds = 1 }\n", "\"kinds\" is none of inputs"),
            ("path = 'x'\n", "tables.m.inputs: must be set"),
        ] {
            let errors = parse(text).1;
            assert!(errors.contains(expected), "{text}: {errors}");
        }
    }
}
