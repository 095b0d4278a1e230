//! The golden vectors of kind `config`: what a wazuh-dfn configuration means, which key is wrong, and
//! that our own reader takes what an accepted one becomes.

use std::{env, fs, path::PathBuf};

use serde_json::{Value, json};
use shipper::cli::import::{dfn, given::Format};

/// The configuration of one vector, as `accepted` or the keys of its errors.
fn outcome(vector: &Value) -> Result<Value, Vec<String>> {
    let text = |name: &str| vector[name].as_str();
    let format = if text("format") == Some("toml") { Format::Toml } else { Format::Yaml };
    let argv: Vec<String> = vector["argv"].as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect();
    let variables = vector["env"].as_object().into_iter().flatten();
    let variables: Vec<(String, String)> = variables.filter_map(|(n, v)| Some((n.clone(), v.as_str()?.to_owned()))).collect();
    match dfn::read(text("file").map(|text| (text, format)), &argv, &variables) {
        Ok(imported) => {
            crate::config_import::assert_taken(&format!("vector {}", vector["name"]), &imported);
            Ok(imported.accepted())
        }
        Err(errors) => Err(errors.0.into_iter().map(|error| error.key).collect()),
    }
}

#[test]
fn every_config_vector_is_read_as_expected() {
    let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/vectors"));
    let path = env::var_os("SHIPPER_VECTORS").map_or(default, PathBuf::from).join("dfn.jsonl");
    let Ok(lines) = fs::read_to_string(&path) else {
        println!("skipped: no vectors at {}", path.display());
        return;
    };
    let (mut seen, mut failed) = (0, 0);
    for line in lines.lines() {
        let vector: Value = serde_json::from_str(line).expect("a vector is JSON");
        if vector["kind"] != "config" {
            continue;
        }
        seen += 1;
        let (came, want) = (outcome(&vector), &vector["expected"]);
        let good = match &came {
            Ok(accepted) => *want == json!({ "accepted": accepted }),
            Err(keys) => keys.len() == 1 && want["error"]["key"] == json!(keys[0]),
        };
        if !good {
            failed += 1;
            println!("{}: came {came:?}, expected {want}", vector["name"]);
        }
    }
    println!("config vectors: {} of {seen} as expected", seen - failed);
    assert!(seen > 0, "no config vectors in {}", path.display());
    assert_eq!(failed, 0);
}
