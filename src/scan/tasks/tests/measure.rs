//! How much goes through the store. Not part of a run: `cargo test --release scan::tasks::tests::measure -- --ignored --nocapture`.

use std::{thread, time::Instant};

use super::{super::*, ALL, alerts_of, matched, submission};

fn open(dir: &std::path::Path) -> Tasks {
    Tasks::open(dir, Limits { size_max: 1 << 30, ..Limits::default() }, alerts_of()).unwrap()
}

#[test]
#[ignore = "a measurement"]
fn submissions_and_finishes_a_second() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = open(dir.path());
    let rate = |what: &str, count: u64, start: Instant| {
        println!("{what}: {count} in {:.2?}, {:.0} a second", start.elapsed(), count as f64 / start.elapsed().as_secs_f64());
    };
    for parallel in [1, 8, 64] {
        let (count, start) = (parallel * 100, Instant::now());
        let threads: Vec<_> = (0..parallel)
            .map(|thread| {
                let store = store.clone();
                thread::spawn(move || {
                    for n in 0..100 {
                        store.submit(vec![submission(&format!("{parallel}-{thread}-{n}"), n)]).wait().unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        rate(&format!("submit, one by one, {parallel} callers"), count, start);
    }
    let start = Instant::now();
    store.submit((0..20_000).map(|n| submission(&format!("bulk-{n}"), n)).collect()).wait().unwrap();
    rate("submit, 20,000 in one", 20_000, start);
    for children in [1, 4, 16] {
        let (each, start) = (200, Instant::now());
        let threads: Vec<_> = (0..children)
            .map(|child| {
                let store = store.clone();
                thread::spawn(move || {
                    for _ in 0..each {
                        for lease in store.lease(&format!("w{child}"), ALL, 1, Take::Started).wait().unwrap() {
                            store.finish(&format!("w{child}"), matched(&lease, &["one"])).wait().unwrap();
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        rate(&format!("lease + finish (1 alert), {children} children"), children * each, start);
    }
    let start = Instant::now();
    let mut finished = 0;
    loop {
        let leases = store.lease("w", ALL, 1000, Take::Started).wait().unwrap();
        if leases.is_empty() {
            break;
        }
        finished += leases.len() as u64;
        let answers: Vec<_> = leases.iter().map(|lease| store.finish("w", matched(lease, &["one"]))).collect();
        answers.into_iter().for_each(|answer| drop(answer.wait().unwrap()));
    }
    rate("lease + finish (1 alert), 1000 at once", finished, start);
    let bytes = std::fs::metadata(dir.path().join("scan.redb")).unwrap().len();
    println!("file: {} MiB, {} bytes a task", bytes >> 20, bytes / store.figures().done);
    for (what, filter) in [
        ("all", AlertFilter::default()),
        ("one rule", AlertFilter { rule_name: Some("on".into()), ..AlertFilter::default() }),
        ("rule and severity", AlertFilter { rule_name: Some("on".into()), severity_min: Some(2), ..AlertFilter::default() }),
    ] {
        let start = Instant::now();
        let found = store.alerts(filter, Page { number: 1, size: 20 }).wait().unwrap();
        println!("alerts, {what}: {} in {:.2?}", found.total, start.elapsed());
    }
    store.close();
    drop(store);
    let start = Instant::now();
    drop(open(dir.path()));
    println!("open again, checked whole: {:.2?}", start.elapsed());
}
