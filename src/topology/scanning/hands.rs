//! What the API may ask of scanning.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::{rounds, start::Shared};
use crate::{
    api::scan::{Hands, Later},
    clock::Clock,
    scan::{
        monitor::Change,
        outcome::Outcome,
        rules::{RuleError, RulesView},
        task::Task,
        workers::client::{Offered, Worker},
    },
};

/// Scanning, as the API sees it.
pub(super) struct Own {
    pub(super) shared: Arc<Shared>,
    /// `[{name, kind, required}]`.
    pub(super) sinks: Value,
    /// Where this host is a worker.
    pub(super) works: Option<Arc<Worker>>,
}

fn told(view: &RulesView) -> Value {
    let rules: Vec<Value> = view
        .rules
        .iter()
        .map(|rule| json!({"name": rule.name, "namespace": rule.namespace, "tags": rule.tags, "meta": rule.meta}))
        .collect();
    json!({"version": view.version, "rules": rules, "errors": errors(&view.errors)})
}

fn errors(errors: &[RuleError]) -> Value {
    let all = errors.iter().map(|e| json!({"file": e.file, "line": e.line, "code": e.code, "message": e.message}));
    all.collect::<Vec<_>>().into()
}

impl Hands for Own {
    fn rules(&self) -> Value {
        told(&self.shared.scanner.rules())
    }

    fn update_rules(&self, force: bool) -> Later<Result<Value, (String, Value)>> {
        let reload = self.shared.scanner.reload(Some(force));
        let shared = self.shared.clone();
        Box::pin(async move {
            let answer = reload.await.map_err(|(why, wrong)| (why, errors(&wrong)));
            shared.turn.raise();
            shared.stand();
            answer.map(|_| told(&shared.scanner.rules()))
        })
    }

    fn children(&self) -> (usize, usize) {
        self.shared.scanner.children()
    }

    fn child_deaths(&self) -> u64 {
        self.shared.scanner.deaths()
    }

    fn set_children(&self, children: Option<usize>) -> Later<bool> {
        let wanted = children.unwrap_or(self.shared.children);
        let is_so = self.shared.scanner.children().0 == wanted;
        if !is_so {
            self.shared.scanner.set_children(wanted);
            self.shared.turn.raise();
        }
        Box::pin(std::future::ready(!is_so))
    }

    fn cleanup(&self) -> Value {
        self.shared.cleaning.told()
    }

    fn clean(&self, is_dry: bool) -> Later<Result<Value, String>> {
        let round = self.shared.cleaning.round(is_dry);
        Box::pin(async move { round.await.map(|report| report.json()) })
    }

    fn sinks(&self) -> Value {
        self.sinks.clone()
    }

    fn relate(&self, task: &Task, outcome: &mut Outcome) {
        self.shared.related.join(task, outcome, self.shared.clock.mono());
    }

    fn zeek_lost(&self) -> BTreeMap<&'static str, u64> {
        self.shared.related.zeek_lost()
    }

    fn suricata(&self) -> Value {
        self.shared.related.suricata()
    }

    fn suricata_alerts(&self) -> Vec<Value> {
        self.shared.related.suricata_alerts()
    }

    fn correlations(&self) -> Vec<Value> {
        self.shared.related.correlations()
    }

    fn correlate(&self) -> Later<Result<usize, String>> {
        let shared = self.shared.clone();
        Box::pin(async move { Ok(shared.related.correlate(shared.clock.mono()).await) })
    }

    fn offer(&self, task: Task) -> Option<bool> {
        self.works.as_ref().map(|worker| worker.offer(task) == Offered::Accepted)
    }

    fn worker(&self) -> Option<Value> {
        self.works.as_ref().map(|worker| worker.status())
    }

    fn shut_down(&self) -> bool {
        // As an operator would: what hears that drains and ends.
        self.works.is_some() && rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).is_ok()
    }

    fn tell(&self, changes: Vec<Change>) {
        rounds::tell(&self.shared, &changes, self.shared.clock.now());
    }
}
