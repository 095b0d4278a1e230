//! Which systems wait for a lookup that is not theirs: what `shipper check` warns of.
//!
//! A source reads on only while what it has read is settled, whichever handler wanted it. So where
//! a required lookup and another handler share a source, an outage of the lookup stops both; two
//! sources on the same file stop only the one. Pure.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::{
    Plan,
    plan::{HandlerPlan, LookupPlan},
};

/// For each lookup that others wait for, its index and what to tell.
pub fn waits(plan: &Plan) -> Vec<(usize, String)> {
    let waited = plan.lookups.iter().enumerate().filter(|(_, lookup)| lookup.required && lookup.spec.waits());
    waited.filter_map(|(n, lookup)| Some((n, told(plan, lookup)?))).collect()
}

fn told(plan: &Plan, lookup: &LookupPlan) -> Option<String> {
    let taken = plan.outputs.iter().filter(|output| lookup.inputs >> output.slot & 1 == 1);
    let branches = taken.fold(0, |all, output| all | output.branches);
    let is_its = |handler: &HandlerPlan| branches >> handler.branch & 1 == 1;
    let its: Vec<usize> = plan.handlers.iter().filter(|handler| is_its(handler)).flat_map(|handler| handler.sources.clone()).collect();
    let mut shared: Vec<usize> = Vec::new();
    let mut others: Vec<&str> = Vec::new();
    for handler in plan.handlers.iter().filter(|handler| !is_its(handler)) {
        let both: Vec<usize> = handler.sources.iter().copied().filter(|source| its.contains(source)).collect();
        if !both.is_empty() {
            others.push(&handler.name);
            shared.extend(both);
        }
    }
    shared.sort_unstable();
    shared.dedup();
    let sources: Vec<&str> = shared.iter().filter_map(|source| plan.sources.get(*source)).map(|source| source.name.as_str()).collect();
    (!others.is_empty()).then(|| {
        format!(
            "while it waits, {} waits too, since both read source {}; give the lookup a source of its own, with the same settings under another name",
            others.join(", "),
            sources.join(", ")
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        register::Node,
        topology::{Host, config::Config},
    };

    fn check(ioc: &str, other: &str, lookup: &str) -> Vec<String> {
        let text = format!(
            "[sources.a]\nkind = 'wazuh'\n[sources.b]\nkind = 'wazuh'\n[tables.t]\nkind = 'indicators'\n\
             [handlers.ioc]\nkind = 'ioc'\ninputs = [{ioc}]\nindicators = 't'\n[handlers.all]\nkind = 'forward'\ninputs = [{other}]\n\
             [stages.dedup]\nkind = 'dedup'\ninputs = ['ioc']\n[lookups.misp]\nkind = 'misp'\ninputs = ['dedup']\n{lookup}\n\
             [sinks.out]\nkind = 'blackhole'\ninputs = ['misp', 'all', 'ioc.known']\n"
        );
        let host = Host { name: "host".into(), embedded: None };
        let config = Config::read(Node::parse_toml(&text).unwrap(), std::iter::empty(), &[], &host);
        let plan = Plan::build(config).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        waits(&plan).into_iter().map(|(_, told)| told).collect()
    }

    const ASKS: &str = "url = 'https://m'\nkey_file = '/k'";

    #[test]
    fn a_required_lookup_that_shares_a_source_with_another_handler_is_told() {
        let [told] = &check("'a', 'b'", "'a'", ASKS)[..] else { panic!("one") };
        assert!(told.starts_with("while it waits, all waits too, since both read source a;"), "{told}");
        assert!(check("'a', 'b'", "'b', 'a'", ASKS).concat().contains("source a, b;"));
    }

    #[test]
    fn a_lookup_that_nobody_waits_for_is_not_told() {
        assert_eq!(check("'a'", "'b'", ASKS), [""; 0], "sources of their own");
        assert_eq!(check("'a', 'b'", "'a'", &format!("{ASKS}\nrequired = false")), [""; 0], "not required");
        assert_eq!(check("'a', 'b'", "'a'", "mode = 'mirror'\nindicators = 't'"), [""; 0], "answers by itself");
        assert_eq!(check("'a', 'b'", "'a'", &format!("{ASKS}\nwhile_away = 'spool'")), [""; 0], "its messages wait on disk");
    }
}
