//! Which of the two generations counts.

use std::path::Path;

use super::{Checkpoint, CheckpointError, decode};

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    /// The file's name in the state folder.
    pub fn file_name(self) -> &'static str {
        match self {
            Slot::A => "checkpoint.a",
            Slot::B => "checkpoint.b",
        }
    }
    /// The one that the next save replaces.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

/// The generation that counts, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub checkpoint: Checkpoint,
    pub slot: Slot,
}

/// Chooses between the two generations; `None` is a first run.
///
/// A save writes a temporary file, fsyncs it, renames it over the slot that does *not* hold the
/// last saved generation, and fsyncs the folder; only then the generation counts as saved. A save
/// that failed is tried again with the same generation in the same slot. So whenever the machine
/// stops, each slot is missing or whole, a slot that once was there stays there, and the
/// generations are neighbours:
///
/// | a | b | the agent was | |
/// |---|---|---|---|
/// | missing | missing | never saved | first run |
/// | generation 1 | missing | saved once (or b the same) | a |
/// | generation *n* | generation *n* + 1 | saved often (or the other way round) | the higher |
/// | generation *n* > 1 | missing | somebody removed b | refused |
/// | generation *n* | generation *n*, same bytes | somebody copied one over the other | a: nothing is in doubt |
/// | generation *n* | generation *n*, others | not one agent's | refused |
/// | *n* | *m*, further apart | copied from a running agent, but each whole | the higher |
/// | of instance x, generation *n* | of y, *n* + 1, which was x before | given another name | the higher |
/// | of instance x | of instance y | copied together from two agents | refused |
/// | damaged | anything | a disk lied, or somebody edited | refused |
/// | of a later format | anything | a later shipper ran here | refused, also if the other can be read |
///
/// Taking the older one where the newer is damaged would repeat or lose what lies between them
/// without a word; the repair command does it with one.
///
/// - `dir`: the state folder, for errors.
/// - `a`, `b`: what the files hold, `None` if a file is not there.
///
/// # Errors
/// As the table says.
pub fn choose(dir: &Path, a: Option<&[u8]>, b: Option<&[u8]>) -> Result<Option<Chosen>, CheckpointError> {
    let path = |slot: Slot| dir.join(slot.file_name());
    let mismatch = |what: String| CheckpointError::Mismatch { a: path(Slot::A), b: path(Slot::B), what };
    let read = |slot: Slot, bytes: Option<&[u8]>| bytes.map(|bytes| decode(&path(slot), bytes)).transpose();
    // A later format is named first: with it in one slot, damage in the other is no news.
    let (read_a, read_b) = match (read(Slot::A, a), read(Slot::B, b)) {
        (_, Err(error @ CheckpointError::TooNew { .. })) | (Err(error), _) | (_, Err(error)) => return Err(error),
        (Ok(a), Ok(b)) => (a, b),
    };
    match (read_a, read_b) {
        (None, None) => Ok(None),
        (Some(only), None) => alone(only, Slot::A).map_err(mismatch).map(Some),
        (None, Some(only)) => alone(only, Slot::B).map_err(mismatch).map(Some),
        (Some(in_a), Some(in_b)) => {
            let is_one_agent = in_a.instance == in_b.instance || is_renamed(&in_a, &in_b) || is_renamed(&in_b, &in_a);
            if !is_one_agent {
                return Err(mismatch(format!("one is of instance {:?}, the other of {:?}", in_a.instance, in_b.instance)));
            }
            if in_a.generation == in_b.generation && in_a != in_b {
                return Err(mismatch(format!("both say generation {} and differ", in_a.generation)));
            }
            Ok(Some(if in_b.generation > in_a.generation {
                Chosen { checkpoint: in_b, slot: Slot::B }
            } else {
                Chosen { checkpoint: in_a, slot: Slot::A }
            }))
        }
    }
}

/// True if the agent got another name between these two saves.
fn is_renamed(older: &Checkpoint, newer: &Checkpoint) -> bool {
    older.generation.checked_add(1) == Some(newer.generation) && newer.instance_before.as_ref() == Some(&older.instance)
}

fn alone(checkpoint: Checkpoint, slot: Slot) -> Result<Chosen, String> {
    if checkpoint.generation > 1 {
        let missing = slot.other().file_name();
        return Err(format!("{} holds generation {}, but {missing} is gone", slot.file_name(), checkpoint.generation));
    }
    Ok(Chosen { checkpoint, slot })
}

#[cfg(test)]
mod tests {
    use super::{super::encode, *};

    /// What a slot may hold in the tests.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Held {
        Missing,
        Whole(u64, &'static str),
        /// Of an agent that was `m` before.
        Renamed(u64, &'static str),
        Damaged,
        TooNew,
    }

    fn bytes(held: Held) -> Option<Vec<u8>> {
        let whole =
            |generation, instance: &str| encode(&Checkpoint { generation, instance: instance.into(), ..Checkpoint::default() }).unwrap();
        match held {
            Held::Missing => None,
            Held::Whole(generation, instance) => Some(whole(generation, instance)),
            Held::Renamed(generation, instance) => {
                let instance_before = Some("m".into());
                Some(encode(&Checkpoint { generation, instance: instance.into(), instance_before, ..Checkpoint::default() }).unwrap())
            }
            Held::Damaged => Some(vec![0; 512]),
            Held::TooNew => Some(b"shipper-checkpoint 2 crc32c=00000000 bytes=0 generation=1\n".to_vec()),
        }
    }

    /// The table again, written the slow way: `Ok(None)` first run, `Ok(Some(slot))`, or the word
    /// that the error must hold.
    fn naive(a: Held, b: Held) -> Result<Option<Slot>, &'static str> {
        use Held::*;
        if a == TooNew || b == TooNew {
            return Err("upgrade shipper");
        }
        if a == Damaged || b == Damaged {
            return Err("is damaged");
        }
        match (a, b) {
            (Missing, Missing) => Ok(None),
            (Whole(1, _), Missing) => Ok(Some(Slot::A)),
            (Missing, Whole(1, _)) => Ok(Some(Slot::B)),
            (Missing, _) | (_, Missing) => Err("is gone"),
            (Whole(n, "m"), Renamed(m, _)) if m == n + 1 => Ok(Some(Slot::B)),
            (Renamed(m, _), Whole(n, "m")) if m == n + 1 => Ok(Some(Slot::A)),
            (Renamed(..), Renamed(..)) => Ok(Some(Slot::A)),
            (Whole(n, "n"), Renamed(m, _)) | (Renamed(m, _), Whole(n, "n")) if m == n => Err("and differ"),
            (Renamed(..), _) | (_, Renamed(..)) => Err("of instance"),
            (Whole(_, x), Whole(_, y)) if x != y => Err("of instance"),
            (Whole(n, _), Whole(m, _)) => Ok(Some(if m > n { Slot::B } else { Slot::A })),
            _ => unreachable!(),
        }
    }

    #[test]
    fn the_table_holds_for_every_pair() {
        use Held::*;
        let all = [Missing, Whole(1, "m"), Whole(2, "m"), Whole(3, "m"), Whole(7, "m"), Whole(2, "n"), Renamed(2, "n"), Damaged, TooNew];
        for a in all {
            for b in all {
                let found = choose(Path::new("/s"), bytes(a).as_deref(), bytes(b).as_deref());
                match (naive(a, b), found) {
                    (Ok(slot), Ok(chosen)) => assert_eq!(chosen.map(|c| c.slot), slot, "{a:?} {b:?}"),
                    (Err(word), Err(error)) => assert!(error.to_string().contains(word), "{a:?} {b:?}: {error}"),
                    (expected, found) => panic!("{a:?} {b:?}: expected {expected:?}, found {found:?}"),
                }
            }
        }
    }

    #[test]
    fn two_of_one_generation_must_be_the_same() {
        let one = encode(&Checkpoint { generation: 4, saved_at: "x".into(), ..Checkpoint::default() }).unwrap();
        let two = encode(&Checkpoint { generation: 4, saved_at: "y".into(), ..Checkpoint::default() }).unwrap();
        assert_eq!(
            choose(Path::new("/s"), Some(&one), Some(&two)).unwrap_err().to_string(),
            "checkpoints /s/checkpoint.a and /s/checkpoint.b do not belong together: both say generation 4 and differ; \
             run `shipper state repair` to choose one, or restore both from one backup"
        );
        assert_eq!(choose(Path::new("/s"), Some(&one), Some(&one)).unwrap().unwrap().slot, Slot::A);
    }
}
