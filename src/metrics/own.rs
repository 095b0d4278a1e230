//! What a component counts of its own, beside what is counted of every component.
//!
//! A component asks its [`Standing`](super::Standing) for a figure by name and labels and keeps it;
//! the label `component` is added here. Figures are told with all others, and those that say
//! something stand in the component's line of statistics. Counts go on when the graph is built
//! anew; levels are those of the components that run.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use prometheus_client::{encoding::text::encode, metrics::family::Family, registry::Registry};

use super::{Count, Counts, Labels, Standing, counts::Level, lock};

/// The figures of all components of a board.
#[derive(Clone, Default)]
pub(super) struct Figures(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    registry: Registry,
    counts: BTreeMap<&'static str, Counts>,
    levels: BTreeMap<&'static str, Family<Labels, Level>>,
    /// By component, in the order of asking.
    shown: BTreeMap<String, Vec<(String, Figure)>>,
}

enum Figure {
    Count(Count),
    Level(Level),
}

impl Figures {
    /// In Prometheus's text form, without its end.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &lock(&self.0).registry);
        text.truncate(text.trim_end_matches("# EOF\n").len());
        text
    }

    /// The components of the graph are gone.
    pub(super) fn begin(&self) {
        let mut table = lock(&self.0);
        table.levels.values().for_each(|family| family.clear());
        for figures in table.shown.values_mut() {
            figures.retain(|(_, figure)| matches!(figure, Figure::Count(_)));
        }
    }

    /// Each component with all its figures, in the order of asking.
    pub(super) fn told(&self) -> Vec<(String, Vec<(String, i64)>)> {
        let value = |figure: &Figure| match figure {
            Figure::Count(count) => i64::try_from(count.get()).unwrap_or(i64::MAX),
            Figure::Level(level) => level.get(),
        };
        let told = |figures: &Vec<(String, Figure)>| figures.iter().map(|(name, figure)| (name.clone(), value(figure))).collect();
        lock(&self.0).shown.iter().map(|(component, figures)| (component.clone(), told(figures))).collect()
    }

    /// Each component with what its figures say, none of them zero: `searches{kind=first} 12, …`.
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let said = |(name, figure): &(String, Figure)| match figure {
            Figure::Count(count) => Some(count.get()).filter(|n| *n > 0).map(|n| format!("{name} {n}")),
            Figure::Level(level) => Some(level.get()).filter(|n| *n != 0).map(|n| format!("{name} {n}")),
        };
        let table = lock(&self.0);
        let lines = table.shown.iter().map(|(component, figures)| (component.clone(), figures.iter().filter_map(said).collect::<Vec<_>>()));
        lines.filter(|(_, said)| !said.is_empty()).map(|(component, said)| (component, said.join(", "))).collect()
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

/// `searches{kind=first}` of `shipper_misp_searches` and its labels.
fn short(name: &str, labels: &[(&'static str, &str)]) -> String {
    let name = name.strip_prefix("shipper_").unwrap_or(name);
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) }
}

impl Standing {
    /// A count of this component's own; the same one for the same name and labels.
    ///
    /// - `name`: `shipper_<noun>_<unit>`, told with `_total`; of one family the labels' names are the same.
    /// - `help`: for the family; the first one counts.
    /// - `labels`: beside `component`; values from a list of ours, never from what was read.
    pub fn count(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Count {
        let mut table = lock(&self.board.figures.0);
        let Table { registry, counts, shown, .. } = &mut *table;
        let family = counts.entry(name).or_insert_with(|| {
            let family = Counts::default();
            registry.register(name, help, family.clone());
            family
        });
        let count = family.get_or_create_owned(&self.labels(labels));
        self.show(shown, short(name, labels), Figure::Count(count.clone()));
        count
    }

    /// A value of this component's own that goes up and down; otherwise as [`count`](Self::count).
    pub fn level(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Level {
        let mut table = lock(&self.board.figures.0);
        let Table { registry, levels, shown, .. } = &mut *table;
        let family = levels.entry(name).or_insert_with(|| {
            let family = Family::default();
            registry.register(name, help, family.clone());
            family
        });
        let level = family.get_or_create_owned(&self.labels(labels));
        self.show(shown, short(name, labels), Figure::Level(level.clone()));
        level
    }

    /// Takes a level back: what it told of is not this component's any more.
    pub fn forget(&self, name: &'static str, labels: &[(&'static str, &str)]) {
        let mut table = lock(&self.board.figures.0);
        let Table { levels, shown, .. } = &mut *table;
        if let Some(family) = levels.get(name) {
            family.remove(&self.labels(labels));
        }
        let name = short(name, labels);
        if let Some(figures) = shown.get_mut(&self.row.component) {
            figures.retain(|(known, _)| *known != name);
        }
    }

    fn labels(&self, labels: &[(&'static str, &str)]) -> Labels {
        let of = [("component", self.row.component.as_str())];
        of.iter().chain(labels).map(|(name, value)| (*name, (*value).to_owned())).collect()
    }

    fn show(&self, shown: &mut BTreeMap<String, Vec<(String, Figure)>>, name: String, figure: Figure) {
        let figures = shown.entry(self.row.component.clone()).or_default();
        if figures.iter().all(|(known, _)| *known != name) {
            figures.push((name, figure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Board, Metrics};

    #[test]
    fn figures_of_one_place_are_one_and_are_told_with_all_others() {
        let board = Board::default();
        let metrics = Metrics::new(&board);
        let [one, two] = ["lookups.a", "lookups.b"].map(|name| board.enter(name));
        let searches = |of: &super::Standing, kind| of.count("shipper_x_searches", "Searches", &[("kind", kind)]);
        searches(&one, "first").inc_by(2);
        searches(&one, "first").inc();
        searches(&one, "again");
        searches(&two, "first").inc();
        one.level("shipper_x_open", "Open", &[]).set(4);
        let text = metrics.text();
        for line in [
            "# HELP shipper_x_searches Searches.\n",
            "shipper_x_searches_total{component=\"lookups.a\",kind=\"first\"} 3\n",
            "shipper_x_searches_total{component=\"lookups.a\",kind=\"again\"} 0\n",
            "shipper_x_searches_total{component=\"lookups.b\",kind=\"first\"} 1\n",
            "shipper_x_open{component=\"lookups.a\"} 4\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE shipper_x_searches").count(), 1);
        assert_eq!(text.matches("# EOF").count(), 1);
        let line = |component: &str, figures: &str| (component.to_owned(), figures.to_owned());
        assert_eq!(
            board.figures(),
            [line("lookups.a", "x_searches{kind=first} 3, x_open 4"), line("lookups.b", "x_searches{kind=first} 1")]
        );

        let told: Vec<(String, i64)> = board.figures_told().remove(0).1;
        let expected = [("x_searches{kind=first}", 3), ("x_searches{kind=again}", 0), ("x_open", 4)];
        assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value)));

        board.begin();
        assert!(!metrics.text().contains("shipper_x_open{"), "levels are those of components that run");
        assert_eq!(board.figures()[0].1, "x_searches{kind=first} 3", "counts go on");
        one.level("shipper_x_gone", "Gone", &[("of", "a")]).set(4);
        one.forget("shipper_x_gone", &[("of", "a")]);
        assert!(!metrics.text().contains("shipper_x_gone{"));
        assert_eq!(board.figures()[0].1, "x_searches{kind=first} 3", "what was taken back is not told");
        board.enter("lookups.a").level("shipper_x_open", "Open", &[]).set(5);
        assert!(metrics.text().contains("shipper_x_open{component=\"lookups.a\"} 5\n"));
    }
}
