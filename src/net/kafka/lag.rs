//! How far partitions reach: read out of librdkafka's statistics, which cost no question to a broker.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::consumer::Place;

/// Where a partition ends, and where its reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The offset behind its last record.
    pub high: i64,
    /// The offset behind the last record of no open transaction.
    pub stable: i64,
    /// The offset that is fetched next.
    pub next: i64,
    /// Records that are fetched and not yet polled.
    pub queued: i64,
}

/// STATISTICS.md of librdkafka; members that are not named here are passed over.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
struct Topic {
    #[serde(default)]
    partitions: BTreeMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    hi_offset: i64,
    ls_offset: i64,
    next_offset: i64,
    #[serde(default)]
    fetchq_cnt: i64,
}

/// The ends of all partitions that are read. Of a partition of which no fetch was answered yet nothing is told.
///
/// - `statistics`: JSON of librdkafka.
pub fn ends(statistics: &[u8]) -> BTreeMap<Place, End> {
    let told = serde_json::from_slice::<Told>(statistics).map_or_else(|_| BTreeMap::new(), |told| told.topics);
    let all = told.into_iter().flat_map(|(topic, told)| told.partitions.into_values().map(move |partition| (topic.clone(), partition)));
    // Offsets below zero are words: not known, not fetched. Partition -1 stands for none.
    let read = all.filter(|(_, p)| p.partition >= 0 && p.hi_offset >= 0 && p.next_offset >= 0);
    read.map(|(topic, p)| {
        let end = End {
            high: p.hi_offset,
            stable: if p.ls_offset >= 0 { p.ls_offset } else { p.hi_offset },
            next: p.next_offset,
            queued: p.fetchq_cnt.max(0),
        };
        (Place { topic, partition: p.partition }, end)
    })
    .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_of_partitions_that_are_read() {
        let statistics = br#"{"name":"x","topics":{"waf":{"topic":"waf","partitions":{
            "0":{"partition":0,"fetchq_cnt":7,"next_offset":40,"lo_offset":3,"hi_offset":50,"ls_offset":45,"consumer_lag":-1},
            "1":{"partition":1,"fetchq_cnt":0,"next_offset":9,"hi_offset":9,"ls_offset":-1001},
            "2":{"partition":2,"next_offset":-1001,"hi_offset":-1001,"ls_offset":-1001},
            "-1":{"partition":-1,"next_offset":0,"hi_offset":0,"ls_offset":0}}}},"cgrp":{"state":"up"}}"#;
        let place = |partition| Place { topic: "waf".into(), partition };
        let expected =
            [(place(0), End { high: 50, stable: 45, next: 40, queued: 7 }), (place(1), End { high: 9, stable: 9, next: 9, queued: 0 })];
        assert_eq!(ends(statistics), BTreeMap::from(expected));
        for wrong in [&b""[..], b"[]", b"{\"topics\":1}"] {
            assert!(ends(wrong).is_empty());
        }
    }
}
