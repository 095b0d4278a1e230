//! The dashboard that is handed out, held against the lines of layout `upstream`: every measurement, tag and field that
//! a query names is there, and is what the query takes it for.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

/// Both lines of one event, as the golden vectors have them.
const LINES: [&str; 2] = [
    r#"waf_events,client_ip=192.168.1.100,geo_city=unknown,geo_country=unknown,method=POST,rule_id=942100,severity_level=critical anomaly_score=65i,severity=95i,response_code=403i,uri="/admin/login",geo_latitude=0,geo_longitude=0 1640995200000000000"#,
    r#"waf_requests,attack_type=sqli,blocked=true,city=unknown,client_ip=192.168.1.100,country=unknown,method=POST,rule_id=942100,severity=critical count=1i,anomaly_score=65i,severity_score=95i,response_code=403i,uri="/admin/login",latitude=0,longitude=0 1640995200000000000"#,
];

/// What a line is made of, by name.
#[derive(Debug)]
struct Shape {
    measurement: String,
    tags: BTreeSet<String>,
    fields: BTreeSet<String>,
}

/// Takes a line apart whose values hold no blank, comma or equals sign.
fn shape(line: &str) -> Shape {
    let mut parts = line.split(' ');
    let mut head = parts.next().unwrap().split(',');
    let name = |pair: &str| pair.split('=').next().unwrap().to_owned();
    let measurement = head.next().unwrap().to_owned();
    Shape { measurement, tags: head.map(name).collect(), fields: parts.next().unwrap().split(',').map(name).collect() }
}

fn queries() -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/waf.json");
    let board: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["query"].as_str().unwrap().to_owned()).collect()
}

/// The names in double quotes, each with what stands before it, blanks left out.
fn names(query: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = query.split('"').collect();
    parts.chunks_exact(2).map(|pair| (pair[1].to_owned(), pair[0].split_whitespace().last().unwrap_or_default().to_owned())).collect()
}

#[test]
fn every_name_in_a_query_is_one_of_the_layout() {
    let shapes = LINES.map(shape);
    let queries = queries();
    assert!(queries.len() >= 10, "{}", queries.len());
    for query in queries {
        let names = names(&query);
        let made: BTreeSet<&String> = names.iter().filter(|(_, before)| before == "AS").map(|(name, _)| name).collect();
        let (measurement, _) = names.iter().find(|(_, before)| before == "FROM").unwrap_or_else(|| panic!("no measurement in {query}"));
        let shape = shapes.iter().find(|shape| shape.measurement == *measurement).unwrap_or_else(|| panic!("no measurement {measurement}"));
        let is_grouped = |name: &String| query.split("GROUP BY").skip(1).any(|groups| groups.contains(&format!("\"{name}\"")));
        for (name, before) in names.iter().filter(|(name, before)| before != "FROM" && !made.contains(name)) {
            let is_function = ["sum(", "max(", "mean(", "count("].iter().any(|function| before.ends_with(function));
            match () {
                () if is_function => assert!(shape.fields.contains(name), "{name} is no field of {measurement}: {query}"),
                () if before == "AND" || is_grouped(name) => {
                    assert!(shape.tags.contains(name), "{name} is no tag of {measurement}: {query}")
                }
                () => assert!(shape.tags.contains(name) || shape.fields.contains(name), "{name} is nothing of {measurement}: {query}"),
            }
        }
        assert!(query.contains("$timeFilter"), "{query} looks at the whole database");
    }
}

#[test]
fn the_layout_is_that_of_the_golden_vectors() {
    let dir = std::env::var_os("SHIPPER_VECTORS").map_or_else(|| PathBuf::from("../shared/vectors"), PathBuf::from);
    let Ok(text) = fs::read_to_string(dir.join("waf.jsonl")) else {
        eprintln!("skipped: no {}", dir.join("waf.jsonl").display());
        return;
    };
    let sample =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|vector| vector["name"] == "doc/sample-with-403");
    let sample = sample.expect("the document's own sample");
    assert_eq!(
        sample["expected"]["upstream_lines"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>(),
        LINES
    );
}
