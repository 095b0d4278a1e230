//! What is wrong with a config, as the operator reads it.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
use insta::assert_snapshot;

use super::*;
use crate::{
    handlers::{self, Output},
    register::Node,
    sinks, sources, stages,
};

const GOOD: &str =
    "[sources.in]\nkind = 'stdin'\n[handlers.all]\nkind = 'forward'\ninputs = ['in']\n[sinks.out]\nkind = 'blackhole'\ninputs = ['all']\n";

fn config(text: &str, env: &[(&str, &str)], flags: &[Flag], embedded: Option<&str>) -> Config {
    let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let host = Host { name: "manager".into(), embedded: embedded.map(str::to_owned) };
    Config::read(Node::parse_toml(text).unwrap(), env, flags, &host)
}

fn plan(text: &str) -> Plan {
    Plan::build(config(text, &[], &[], None)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The answer to a wrong config, with the lists of known kinds (which grow) as a word.
fn answer(config: Config) -> String {
    let text = Plan::build(config).expect_err("this config is wrong").to_string();
    let lists = [
        sources::ALL.iter().map(|k| k.name()).collect::<Vec<_>>(),
        handlers::ALL.iter().map(|k| k.name()).collect(),
        stages::ALL.iter().map(|k| k.name()).collect(),
        sinks::ALL.iter().map(|k| k.name()).collect(),
    ];
    lists.iter().fold(text, |text, names| text.replace(&format!("known: {}", names.join(", ")), "known: KINDS"))
}

fn wrong(text: &str) -> String {
    answer(config(text, &[], &[], None))
}

#[test]
fn a_good_config_becomes_a_graph() {
    let plan = plan(GOOD);
    assert_eq!((plan.sources[0].name.as_str(), plan.sources[0].home), ("in", 0));
    assert_eq!((plan.handlers[0].branch, &plan.handlers[0].sources, &plan.handlers[0].routes), (0, &vec![0], &vec![Some(0)]));
    assert_eq!((plan.sinks[0].slot, plan.sinks[0].required, plan.sinks[0].outputs), (0, true, 1));
    let output =
        OutputPlan { slot: 0, branch: 0, branches: 1, index: 0, name: "all".into(), after: None, first: false, sinks: 1, required: 1 };
    assert_eq!(plan.outputs, [output]);
    assert_eq!(plan.globals.instance, "manager");
    assert_eq!(plan.globals.dead_letter.path, std::path::Path::new("/var/lib/shipper/dead-letter"));
}

#[test]
fn what_is_refused_has_an_output_that_a_required_sink_takes() {
    let text = |more: &str| format!("{GOOD}[sinks.letters]\nkind = 'blackhole'\ninputs = ['all.rejected']\n{more}");
    let plan = plan(&text(""));
    let output = &plan.outputs[usize::from(plan.handlers[0].rejected.unwrap())];
    assert_eq!((output.name.as_str(), output.required, &plan.handlers[0].routes), ("all.rejected", 1 << 1, &vec![Some(0)]));
    assert_snapshot!(wrong(&text("required = false\n")), @r#"line 3: handlers.all: what takes "all.rejected" is the dead letter of these records; a sink that is required must be among it"#);
    assert_snapshot!(wrong(&GOOD.replace("['all']", "['all.rejected']")), @r#"line 3: handlers.all: nothing takes its output "all"; add "all" to the inputs of a sink"#);
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let text = "cores = 0\nengine = 'fast'\n[log]\nlevl = 'debug'\n[sources.in]\nkind = 'stdim'\nfoo = 1\n[sources.idle]\nkind = 'stdin'\n\
                [handlers.all]\nkind = 'forward'\ninputs = ['inn']\n[sinks.out]\nkind = 'blackhole'\ninputs = ['all', 'al', 'in']\nrequired = 'maybe'\n\
                [sinks.'o t']\nkind = 3\n[sink.x]\nkind = 'file'\n";
    assert_snapshot!(wrong(text), @r#"
    line 1: cores: 0 is not a whole number from 1 to 1024
    line 2: engine: "fast" is not one of auto, uring, pread
    line 4: log.levl: no such setting; did you mean "log.level"?
    line 6: sources.in.kind: no source "stdim"; known: KINDS; did you mean "stdin"?
    line 8: sources.idle: no handler reads it; add "idle" to the inputs of one, or remove it
    line 12: handlers.all.inputs: no source "inn"; known: in, idle; did you mean "in"?
    line 15: sinks.out.inputs: no handler "al"; known: all; did you mean "all"?
    line 15: sinks.out.inputs: "in" is a source, and sinks take from handlers; put a handler of kind "forward" between them
    line 16: sinks.out.required: "maybe" is neither true nor false; write one of the two
    line 17: sinks.o t: is no name; use letters, digits, "_" and "-"
    line 17: sinks.o t.inputs: must be set; name handlers, as in inputs = ["NAME"]
    line 18: sinks.o t.kind: 3 is not a text; known: KINDS
    line 19: sink: no such setting; did you mean "sinks"?
    "#);
}

#[test]
fn an_empty_config_says_what_to_write() {
    assert_snapshot!(wrong(""), @"
    default: sources: there are none; write [sources.NAME], `shipper list` shows the kinds
    default: handlers: there are none; write [handlers.NAME], `shipper list` shows the kinds
    default: sinks: there are none; write [sinks.NAME], `shipper list` shows the kinds
    ");
}

#[test]
fn an_unwired_primary_output_and_missing_inputs_are_errors() {
    let text = "[sources.in]\nkind = 'stdin'\n[handlers.a]\nkind = 'forward'\ninputs = ['in']\n[handlers.b]\nkind = 'forward'\n[handlers.c]\nkind = 'forward'\ninputs = []\n\
                [sinks.out]\nkind = 'blackhole'\ninputs = ['b', 'c.confirm', 'b']\n";
    assert_snapshot!(wrong(text), @r#"
    line 3: handlers.a: nothing takes its output "a"; add "a" to the inputs of a sink
    line 6: handlers.b.inputs: must be set; name sources, as in inputs = ["NAME"]
    line 8: handlers.c: nothing takes its output "c"; add "c" to the inputs of a sink
    line 10: handlers.c.inputs: is empty; name sources, as in inputs = ["NAME"]
    line 13: sinks.out.inputs: "b" is named twice; remove one
    line 13: sinks.out.inputs: no output "c.confirm"; known: c, c.rejected
    "#);
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let text = format!("cores = 2\ndrain_for = '1s'\n{GOOD}");
    let env = [("SHIPPER__CORES", "3"), ("SHIPPER__LOG__LEVEL", "DEBUG"), ("SHIPPER__SINKS__OUT__REQUIRED", "false")];
    let flag = |value: &str| Flag { path: "cores", value: value.into(), flag: "--cores" };
    let plan = Plan::build(config(&text, &env, &[flag("4")], None)).unwrap();
    assert_eq!((plan.globals.cores, plan.globals.log.level, plan.sinks[0].required), (4, "debug", false));
    assert_eq!(plan.globals.drain_for, std::time::Duration::from_secs(1));

    let env = [("SHIPPER__ENGINE", "fast"), ("SHIPPER__SINKS__OUT__TOPCI", "x"), ("SHIPPER__SINKS__OUT__KIND", "blackhol")];
    assert_snapshot!(answer(config(&text, &env, &[flag("many")], None)), @r#"
    environment SHIPPER__ENGINE: engine: "fast" is not one of auto, uring, pread
    environment SHIPPER__SINKS__OUT__KIND: sinks.out.kind: no sink "blackhol"; known: KINDS; did you mean "blackhole"?
    flag --cores: cores: "many" is not a whole number from 1 to 1024
    "#);
}

#[test]
fn a_listener_that_others_can_reach_is_refused() {
    for (listen, good) in [("127.0.0.1:9600", true), ("[::1]:1", true), ("unix:/run/a.sock", true), ("unix:a", false), ("here", false)] {
        let errors = config(&format!("[api]\nlisten = '{listen}'\n"), &[], &[], None).errors;
        assert_eq!(errors.is_empty(), good, "{listen}: {errors}");
    }
    assert_snapshot!(config("[api]\nlisten = '0.0.0.0:9600'\n", &[], &[], None).errors, @r#"line 2: api.listen: 0.0.0.0:9600 can be reached from outside, which needs TLS and keys: set api.tls.cert, api.tls.key and api.keys_file, or use "127.0.0.1:9600" or "unix:/run/shipper/api.sock""#);
}

#[test]
fn the_embedded_broker_is_refused_unless_there_is_one() {
    let text = "[sinks.k]\nkind = 'none-such'\nbrokers = ['embedded', 'a:1']\n";
    assert!(config(text, &[], &[], None).errors.to_string().contains(
        "line 3: sinks.k.brokers: the broker \"embedded\" is for demo, tests and benches only; name real ones, such as \"kafka.example:9093\""
    ));
    assert!(!config(text, &[], &[], Some("127.0.0.1:5")).errors.to_string().contains("embedded"));
}

#[test]
fn a_second_output_has_its_own_slot_and_waits_for_the_first() {
    const TWO: &[Output] = &[Output { name: "", after: None }, Output { name: "confirm", after: Some(0) }];
    let text = format!("{GOOD}[sinks.back]\nkind = 'blackhole'\ninputs = ['all.confirm', 'all']\nrequired = false\n");
    let mut config = config(&text, &[], &[], None);
    config.handlers[0].outputs = TWO;
    let plan = Plan::build(config).unwrap();
    let rows: Vec<_> = plan.outputs.iter().map(|o| (o.slot, o.name.as_str(), o.after, o.sinks, o.required)).collect();
    assert_eq!(rows, [(0, "all", None, 0b11, 0b01), (1, "all.confirm", Some(0), 0b10, 0)]);
    assert_eq!(plan.sinks.iter().map(|s| s.outputs).collect::<Vec<_>>(), [0b01, 0b11]);
    assert_eq!(plan.handlers[0].routes, [Some(0), Some(1)]);
}

#[test]
fn an_unwired_second_output_is_not_built() {
    const TWO: &[Output] = &[Output { name: "", after: None }, Output { name: "confirm", after: Some(0) }];
    let mut config = config(GOOD, &[], &[], None);
    config.handlers[0].outputs = TWO;
    assert_eq!(Plan::build(config).unwrap().handlers[0].routes, [Some(0), None]);
}

const STAGED: &str = "[sources.in]\nkind = 'stdin'\n[handlers.all]\nkind = 'forward'\ninputs = ['in']\n\
    [stages.quiet]\nkind = 'suppress'\ninputs = ['once']\nmembers = ['id']\n[stages.once]\nkind = 'dedup'\ninputs = ['all']\n\
    [sinks.out]\nkind = 'blackhole'\ninputs = ['quiet', 'all']\n";

#[test]
fn stages_stand_behind_what_they_take_from() {
    let plan = plan(STAGED);
    let stages: Vec<_> = plan.stages.iter().map(|s| (s.name.as_str(), s.inputs, s.branches, s.routes.clone())).collect();
    assert_eq!(stages, [("once", 0b001, 1, vec![Some(2)]), ("quiet", 0b100, 1, vec![Some(1)])]);
    let outputs: Vec<_> = plan.outputs.iter().map(|o| (o.name.as_str(), o.branches, o.sinks)).collect();
    assert_eq!(outputs, [("all", 1, 1), ("quiet", 1, 1), ("once", 1, 0)]);
    assert_eq!(plan.sinks[0].outputs, 0b011);
    assert!(plan.feeds(0, &plan.sinks[0]));
}

#[test]
fn what_is_wrong_with_stages_is_told_as_well() {
    let text = "[sources.in]\nkind = 'stdin'\n[handlers.all]\nkind = 'forward'\ninputs = ['in']\n\
        [stages.one]\nkind = 'dedup'\ninputs = ['two', 'all']\n[stages.two]\nkind = 'dedup'\ninputs = ['three']\n\
        [stages.three]\nkind = 'dedup'\ninputs = ['one']\n[stages.four]\nkind = 'dedub'\ninputs = ['in', 'al', 'one.more']\nmembrs = []\n\
        [stages.all]\nkind = 'dedup'\ninputs = ['all']\nwindow = 'long'\n[sinks.out]\nkind = 'blackhole'\ninputs = ['four', 'fiv']\n";
    assert_snapshot!(wrong(text), @r#"
    line 8: stages.one.inputs: goes in a circle: one → three → two → one; take one of them out of the other's inputs
    line 16: stages.four.kind: no stage "dedub"; known: KINDS; did you mean "dedup"?
    line 17: stages.four.inputs: "in" is a source, and stages take from handlers; put a handler of kind "forward" between them
    line 17: stages.four.inputs: no handler, stage or lookup "al"; known: all, one, two, three, all; did you mean "all"?
    line 17: stages.four.inputs: no output "one.more"; known: one
    line 19: stages.all: handlers.all has this name as well, and inputs name both; rename one
    line 19: stages.all: nothing takes its output "all"; add "all" to the inputs of a sink
    line 22: stages.all.window: "long" is not a span, such as "5ms" or "1h"
    line 25: sinks.out.inputs: no handler, stage or lookup "fiv"; known: all, one, two, three, all
    "#);
}

#[test]
fn one_stage_at_most_holds_a_source() {
    let text = |more: &str, second: &str| {
        format!(
            "[sources.in]\nkind = 'stdin'\n{more}[handlers.apt]\nkind = 'apt'\ninputs = ['in']\n[handlers.more]\nkind = 'apt'\n\
             inputs = ['{second}']\n[stages.one]\nkind = 'detector'\ninputs = ['apt.event']\n[stages.two]\nkind = 'detector'\n\
             inputs = ['more.event']\n[sinks.out]\nkind = 'blackhole'\ninputs = ['apt', 'more', 'one', 'two']\n"
        )
    };
    let kafka = "[sources.other]\nkind = 'kafka'\nbrokers = ['k:9092']\ntopics = ['t']\ngroup = 'g'\n";
    assert_eq!(plan(&text(kafka, "other")).stages.len(), 2);
    let told = wrong(&text("", "in"));
    assert!(told.contains("stages.two: source \"in\" feeds \"one\" already, and only one such stage can hold it"), "{told}");
}

#[test]
fn what_flows_into_a_stage_that_others_wait_for_is_waited_for_behind_it() {
    const TWO: &[Output] = &[Output { name: "", after: None }, Output { name: "confirm", after: Some(0) }];
    let text = format!("{STAGED}[sinks.back]\nkind = 'blackhole'\ninputs = ['all.confirm']\n");
    let mut config = config(&text, &[], &[], None);
    config.handlers[0].outputs = TWO;
    let plan = Plan::build(config).unwrap();
    let rows: Vec<_> = plan.outputs.iter().map(|o| (o.name.as_str(), o.after, o.first)).collect();
    assert_eq!(rows, [("all", None, true), ("all.confirm", Some(0), false), ("quiet", None, true), ("once", None, true)]);
}

#[test]
fn sources_are_spread_over_the_shards() {
    let mut text =
        "cores = 2\n[handlers.all]\nkind = 'forward'\ninputs = ['a', 'b', 'c']\n[sinks.out]\nkind = 'blackhole'\ninputs = 'all'\n"
            .to_owned();
    for name in ["a", "b", "c"] {
        text.push_str(&format!("[sources.{name}]\nkind = 'stdin'\n"));
    }
    assert_eq!(plan(&text).sources.iter().map(|s| s.home).collect::<Vec<_>>(), [0, 1, 0]);
}

#[test]
fn readers_of_files_gather_what_their_sinks_would_wait_for() {
    const FILE: &str = "[sources.in]\nkind = 'file'\npath = '/l'\n[handlers.all]\nkind = 'forward'\ninputs = ['in']\n";
    let kafka =
        |name: &str, more: &str| format!("[sinks.{name}]\nkind = 'kafka'\ninputs = ['all']\nbrokers = ['k:9092']\ntopic = 't'\n{more}\n");
    // How long each reader may rest more, and each sink still waits.
    let millis = |text: &str| {
        let plan = plan(text);
        let rests: Vec<_> = plan.sources.iter().map(|source| source.gathers.as_millis()).collect();
        let waits: Vec<_> = plan.sinks.iter().map(|sink| sink.spec.linger().map(|linger| linger.as_millis())).collect();
        (rests, waits)
    };
    let one = format!("{FILE}{}", kafka("a", ""));
    assert_eq!(millis(&one), (vec![20], vec![Some(0)]));
    assert_eq!(millis(&format!("{FILE}{}", kafka("a", "linger = '50ms'"))), (vec![20], vec![Some(30)]), "no longer than that");
    assert_eq!(millis(&format!("{one}{}", kafka("b", "linger = '0'"))), (vec![0], vec![Some(20), Some(0)]), "one is in a hurry");
    let optional = kafka("b", "linger = '0'\nrequired = false");
    assert_eq!(millis(&format!("{one}{optional}")), (vec![20], vec![Some(0), Some(0)]), "nobody waits for it");
    assert_eq!(millis(&format!("{one}[sinks.b]\nkind = 'blackhole'\ninputs = ['all']")).0, [0], "it takes at once");
    let two = one.replace("['in']", "['in', 'entries']") + "[sources.entries]\nkind = 'stdin'\n";
    assert_eq!(millis(&two), (vec![0, 0], vec![Some(20)]), "not all that feed it rest");
}

#[test]
fn more_sinks_than_a_mask_has_bits_are_refused() {
    let mut text = GOOD.to_owned();
    for n in 0..64 {
        text.push_str(&format!("[sinks.s{n}]\nkind = 'blackhole'\ninputs = ['all']\n"));
    }
    assert_snapshot!(wrong(&text), @"default: sinks: there are 65, at most 64 can be; split the config over two agents");
}

#[test]
fn tables_are_named_by_who_uses_them() {
    let graph = |tables: &str, handler: &str, input: &str| {
        format!(
            "[sources.in]\nkind = 'stdin'\n{tables}[handlers.ioc]\nkind = 'ioc'\ninputs = ['in']\n{handler}[sinks.out]\nkind = 'stdout'\ninputs = ['{input}']\n"
        )
    };
    let known = "[tables.known]\nkind = 'indicators'\n";
    let plan = plan(&graph(known, "indicators = 'known'\n", "ioc.known"));
    assert_eq!((plan.tables[0].kind, plan.shelf.is_filled("known")), ("indicators", false));
    assert_eq!(plan.handlers[0].routes, [None, Some(0)], "the first output need not be taken");
    let lists = "[tables.lists]\nkind = 'warninglists'\n";
    for (tables, handler, input, expected) in [
        (known, "", "ioc", "tables.known: nothing names it"),
        ("", "", "ioc.known", "handlers.ioc.indicators: must be set, since output known is taken"),
        ("", "indicators = 'known'\n", "ioc.known", "no table \"known\"; write [tables.known] with kind = \"indicators\""),
        (known, "indicators = 'knwon'\n", "ioc.known", "no table \"knwon\"; known: known; did you mean \"known\"?"),
        (lists, "indicators = 'lists'\n", "ioc.known", "table \"lists\" is of kind warninglists, and one of kind indicators is wanted"),
        (
            "[tables.x]\nkind = 'indicator'\n",
            "indicators = 'x'\n",
            "ioc.known",
            "no table \"indicator\"; known: indicators, warninglists, reputation, geoip, suppressions, model, sigma; did you mean",
        ),
    ] {
        let errors = Plan::build(config(&graph(tables, handler, input), &[], &[], None)).unwrap_err();
        assert!(errors.0.len() == 1 && errors.to_string().contains(expected), "{expected}: {errors}");
    }
}

#[test]
fn a_setting_may_name_several_tables_and_of_some_kinds_there_are_only_so_many() {
    let model = |name: &str| format!("[tables.{name}]\nkind = 'model'\npath = '/m'\ninputs = ['cpu_usage_mean']\n");
    let graph = |tables: &str, models: &str| {
        format!(
            "[sources.in]\nkind = 'stdin'\n{tables}[handlers.apt]\nkind = 'apt'\ninputs = ['in']\nmodels = {models}\n\
             [sinks.out]\nkind = 'stdout'\ninputs = ['apt']\n"
        )
    };
    let two = model("a") + &model("b");
    assert_eq!(plan(&graph(&two, "['a', 'b']")).tables.len(), 2);
    assert_eq!(plan(&graph(&two, "'a, b'")).tables.len(), 2, "as an environment variable says it");
    let nine: String = (0..9).map(|n| model(&format!("m{n}"))).collect();
    let names: Vec<String> = (0..9).map(|n| format!("'m{n}'")).collect();
    let (names, sigma) = (format!("[{}]", names.join(", ")), "[tables.s]\nkind = 'sigma'\npath = '/s'\n");
    for (tables, models, expected) in [
        (two.as_str(), "['a']", "tables.b: nothing names it"),
        (two.as_str(), "['a', 'b', 'c']", "handlers.apt.models: no table \"c\"; known: a, b"),
        (sigma, "['s']", "table \"s\" is of kind sigma, and one of kind model is wanted"),
        (nine.as_str(), names.as_str(), "tables.m8: there are 9 of kind model, at most 8 can be; remove some"),
    ] {
        let errors = Plan::build(config(&graph(tables, models), &[], &[], None)).unwrap_err();
        assert!(errors.0.len() == 1 && errors.to_string().contains(expected), "{expected}: {errors}");
    }
}

#[test]
fn a_handler_without_its_rules_is_told_once() {
    let text = "[sources.in]\nkind = 'stdin'\n[handlers.sigma]\nkind = 'sigma'\ninputs = ['in']\n\
                [sinks.out]\nkind = 'stdout'\ninputs = ['sigma', 'sigma.event']\n";
    let errors = Plan::build(config(text, &[], &[], None)).unwrap_err();
    assert_eq!(errors.to_string(), "line 3: handlers.sigma.rules: must be set; name a table of kind sigma");
}

#[test]
fn a_file_that_is_not_there_is_an_error_of_its_own() {
    let path = std::path::Path::new("/nowhere/shipper.toml");
    let error = Config::load(Some(path), std::iter::empty(), &[], &Host::this()).unwrap_err();
    assert_snapshot!(error, @"cannot read config /nowhere/shipper.toml; name another with --config, or fix its permissions");
}

#[test]
fn yaml_is_read_by_the_name_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shipper.yml");
    std::fs::write(
        &path,
        "sources: {in: {kind: stdin}}\nhandlers: {all: {kind: forward, inputs: in}}\nsinks: {out: {kind: blackhole, inputs: [al]}}\n",
    )
    .unwrap();
    let error = Plan::load(Some(&path), std::iter::empty(), &[], &Host::this()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("config {} has 1 error\n", path.display())), "{error}");
    assert!(error.contains("line 3: sinks.out.inputs: no handler \"al\"; known: all; did you mean \"all\"?"), "{error}");
}

#[test]
fn a_lookup_with_a_spool_gets_a_source_and_a_branch_that_no_config_can_name() {
    let text = |more: &str| {
        format!(
            "{}[lookups.misp]\nkind = 'misp'\ninputs = ['all']\nurl = 'https://m.example'\nkey_file = '/k'\n{more}\
             [sinks.hits]\nkind = 'blackhole'\ninputs = ['misp']\n",
            GOOD.replace("inputs = ['all']", "inputs = ['all', 'misp.failed']")
        )
    };
    for (more, max) in [("", None), ("while_away = 'spool'\nspool_max = '2 MiB'\n", Some(2 << 20))] {
        let plan = plan(&text(more));
        let names: Vec<_> = plan.sources.iter().map(|source| (source.name.as_str(), plan.keeps_running(0))).collect();
        assert_eq!(names, [("in", true), ("misp:spool", true)]);
        assert_eq!((plan.written(), plan.handlers[1].name.as_str(), &plan.handlers[1].sources), ((1, 1), "misp:spool", &vec![1]));
        let lookup = &plan.lookups[0];
        let spool = lookup.spool.unwrap();
        assert_eq!((spool.max, plan.outputs[usize::from(spool.output)].name.as_str()), (max, "misp:spool"));
        let taken: Vec<_> =
            plan.outputs.iter().filter(|o| lookup.inputs >> o.slot & 1 == 1).map(|o| (o.name.as_str(), o.required)).collect();
        assert_eq!(taken, [("all", 1 | 1 << lookup.slot), ("misp:spool", 1 << lookup.slot)]);
        let hits = plan.outputs.iter().find(|o| o.name == "misp").unwrap();
        assert_eq!(hits.branches, 0b11, "what comes from the spool goes on as what comes at once");
    }
    assert!(plan(&text("required = false\n")).lookups[0].spool.is_none(), "what nobody waits for is not put by");
    assert_snapshot!(wrong(&text("required = false\nwhile_away = 'spool'\n")), @r#"
    line 9: lookups.misp: puts messages by, so records have to wait until they are on disk; set required = true, or while_away = "wait"
    "#);
    assert_snapshot!(wrong(&text("").replace("'all', 'misp.failed'", "'all', 'misp.faild'")), @r#"
    line 8: sinks.out.inputs: no output "misp.faild"; known: misp, misp.failed; did you mean "misp.failed"?
    "#);
}

#[test]
fn a_sink_with_a_spool_gets_a_source_and_a_branch_as_a_lookup_does() {
    let text =
        |more: &str| GOOD.to_owned() + "[sinks.store]\nkind = 'redis'\ninputs = ['all']\nurl = 'redis://r'\nform = 'alerts'\n" + more;
    assert_eq!(plan(&text("")).sources.len(), 1, "one that waits has none");
    let plan = plan(&text("while_away = 'spool'\nspool_max = '2 MiB'\n"));
    let names: Vec<_> = plan.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["in", "store:spool"]);
    let sink = plan.sinks.iter().find(|sink| sink.name == "store").unwrap();
    let spool = sink.spool.unwrap();
    assert_eq!((spool.max, plan.outputs[usize::from(spool.output)].name.as_str()), (Some(2 << 20), "store:spool"));
    let taken: Vec<_> = plan.outputs.iter().filter(|o| sink.outputs >> o.slot & 1 == 1).map(|o| o.name.as_str()).collect();
    assert_eq!(taken, ["all", "store:spool"]);
    assert!(plan.sinks.iter().all(|sink| sink.name == "store" || sink.spool.is_none()));
    assert_snapshot!(wrong(&text("required = false\nwhile_away = 'spool'\n")), @r#"
    line 9: sinks.store: puts messages by, so records have to wait until they are on disk; set required = true, or while_away = "wait"
    "#);
}
