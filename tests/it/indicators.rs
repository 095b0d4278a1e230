//! `docs/INDICATORS.md`: every row of its tables is an example, and this runs each.

use shipper::intel::{Extractor, Key, Place, Wanted};

/// What the rows give, as the page writes it.
fn given(text: &str, member: &str, reasons: bool) -> Vec<String> {
    let keys: Vec<Key<'_>> = member.split('.').map(Key::Name).collect();
    let mut extractor = Extractor::new(Wanted { own_domains: vec!["uni-trier.de".into()], ..Wanted::default() });
    extractor.begin(true);
    extractor.text(text, &Place::new(&keys));
    if reasons {
        assert!(extractor.found().is_empty(), "{text}: {:?}", extractor.found());
        return extractor.left_out().iter().map(|left| left.why.to_owned()).collect();
    }
    extractor.found().iter().map(|ioc| format!("{} {}", ioc.kind.as_str(), ioc.value)).collect()
}

/// The parts of a cell that stand in backticks.
fn spans(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_example_of_the_page_gives_what_it_says() {
    let page = include_str!("../../docs/INDICATORS.md");
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, example, result] = cells[..] else { panic!("three cells: {line}") };
        let [example] = spans(example)[..] else { panic!("one example: {line}") };
        // `member: text`; without a member it is a log line.
        let (member, text) = match example.split_once(": ") {
            Some((member, text)) if member.starts_with("data.") => (member, text),
            _ => ("full_log", example),
        };
        let reasons = result.starts_with("nothing");
        let mut expected = spans(result);
        let mut came = given(text, member, reasons);
        if reasons {
            came.dedup();
            expected.dedup();
        }
        assert_eq!(came, expected, "{line}");
        rows += 1;
    }
    assert!(rows > 50, "{rows} rows");
}
