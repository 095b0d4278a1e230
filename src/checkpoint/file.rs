//! A checkpoint as bytes, and back.

use std::path::{Path, PathBuf};

use super::{
    Checkpoint,
    sealed::{Flaw, Sealed, seal},
};

/// The format that this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const MAGIC: &str = "shipper-checkpoint";

/// Why a checkpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The bytes are not those that were written.
    #[error(
        "checkpoint {} is damaged: {what}; run `shipper state repair` to see what can be resumed from, or restore both checkpoint files from a backup",
        path.display()
    )]
    Damaged { path: PathBuf, what: String },
    /// A later shipper wrote it.
    #[error("checkpoint {} has format {found}, this build reads up to {known}; upgrade shipper", path.display())]
    TooNew { path: PathBuf, found: u32, known: u32 },
    /// The two generations cannot both be what the agent left behind.
    #[error(
        "checkpoints {} and {} do not belong together: {what}; run `shipper state repair` to choose one, or restore both from one backup",
        a.display(),
        b.display()
    )]
    Mismatch { a: PathBuf, b: PathBuf, what: String },
    /// The body cannot be written as JSON: our own mistake.
    #[error("cannot write the checkpoint down: {what}; this is a defect of shipper")]
    Encode { what: String },
}

/// Writes a checkpoint down.
///
/// # Errors
/// [`CheckpointError::Encode`], which no value of these types can cause.
pub fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, CheckpointError> {
    let mut body = serde_json::to_vec_pretty(checkpoint).map_err(|error| CheckpointError::Encode { what: error.to_string() })?;
    body.push(b'\n');
    Ok(seal(MAGIC, FORMAT, &format!("generation={}", checkpoint.generation), &body))
}

/// Reads a checkpoint.
///
/// - `path`: where the bytes come from, for the error.
///
/// # Errors
/// [`CheckpointError::TooNew`] if the first line names a later format, else
/// [`CheckpointError::Damaged`].
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let damaged = |what: String| CheckpointError::Damaged { path: path.to_owned(), what };
    let sealed = Sealed::open(MAGIC, FORMAT, bytes).map_err(|flaw| match flaw {
        Flaw::Damaged(what) => damaged(what),
        Flaw::TooNew(found) => CheckpointError::TooNew { path: path.to_owned(), found, known: FORMAT },
    })?;
    let generation = sealed.fact("generation").and_then(|n| n.parse::<u64>().ok());
    let generation = generation.ok_or_else(|| damaged("its first line is incomplete".into()))?;
    let checkpoint: Checkpoint =
        serde_json::from_slice(sealed.body).map_err(|error| damaged(format!("its body cannot be read: {error}")))?;
    if checkpoint.generation != generation {
        return Err(damaged(format!("its first line says generation {generation}, its body {}", checkpoint.generation)));
    }
    Ok(checkpoint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        checkpoint::{BranchRow, Row, Rung, SegmentRow, Stretch},
        position::Position,
    };

    fn example() -> Checkpoint {
        let at = |offset| Position::File { segment: 7, incarnation: 1, offset };
        Checkpoint {
            instance: "mgr-1".into(),
            instance_before: Some("mgr-0".into()),
            saved_at: "2026-03-14T06:25:12+01:00".into(),
            generation: 871,
            rows: vec![Row {
                source: "alerts".into(),
                stream: "alerts".into(),
                kind: "wazuh".into(),
                segments: vec![SegmentRow {
                    segment: 7,
                    incarnation: 1,
                    path: "/var/ossec/logs/alerts/alerts.json".into(),
                    device: 2049,
                    inode: 11,
                    born: 5,
                    head_len: 1024,
                    head_crc: 77,
                    finished: false,
                    boot: "6c1f".into(),
                    rungs: vec![Rung { offset: 262_144, crc: 0x9a1f_d2c4 }],
                }],
                branches: vec![BranchRow { branch: "dfn".into(), position: at(300_000) }],
                stretches: vec![Stretch { from: at(0), to: at(9), branches: vec![] }],
                drained: true,
            }],
        }
    }

    fn read(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        decode(Path::new("/s/checkpoint.a"), bytes)
    }

    #[test]
    fn a_person_can_read_it_and_so_can_we() {
        let bytes = encode(&example()).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.starts_with("shipper-checkpoint 1 crc32c="), "{text}");
        assert!(text.contains("\"262144:9a1fd2c4\""), "{text}");
        assert_eq!(read(&bytes).unwrap(), example());
    }

    #[test]
    fn every_way_of_being_wrong_has_its_sentence() {
        let good = String::from_utf8(encode(&example()).unwrap()).unwrap();
        let remedy = "; run `shipper state repair` to see what can be resumed from, or restore both checkpoint files from a backup";
        let cases = [
            (String::new(), "is damaged: it is empty"),
            ("\0".repeat(4096), "is damaged: its first line is not \"shipper-checkpoint …\""),
            ("shipper-checkpoint one\n{}".into(), "is damaged: its first line names no format"),
            ("shipper-checkpoint 1 crc32c=00000000\n{}".into(), "is damaged: its first line is incomplete"),
            (good[..good.len() - 9].into(), "is damaged: its body has"),
            (good.replace("mgr-1", "mgr-2"), "is damaged: its checksum does not match its body"),
            (good.replace("generation=871", "generation=872"), "is damaged: its first line says generation 872, its body 871"),
        ];
        for (text, expected) in cases {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("checkpoint /s/checkpoint.a {expected}")), "{error}");
            assert!(error.ends_with(remedy), "{error}");
        }
        let new = good.replace("checkpoint 1 ", "checkpoint 9 ");
        assert_eq!(
            read(new.as_bytes()).unwrap_err().to_string(),
            "checkpoint /s/checkpoint.a has format 9, this build reads up to 1; upgrade shipper"
        );
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_taken_for_a_checkpoint() {
        let good = encode(&example()).unwrap();
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x20;
            if let Ok(read) = read(&bytes) {
                // Upper case in the checksum is the same checksum.
                assert_eq!(read, example(), "byte {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes).is_err());
        }
    }
}
