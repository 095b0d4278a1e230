//! In which form a file is, by its first bytes; and what to do with those that are not read.

use super::{ModelError, lightgbm};

/// A form that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    LightGbm,
    Onnx,
}

/// What a file begins with that is none of ours: its name and what to do instead.
const OTHERS: [(&[u8], &str); 8] = [
    (b"\x89HDF\r\n\x1a\n", "is HDF5, as Keras writes it, which can hold code; convert it with tf2onnx (docs/MODELS.md)"),
    (b"PK\x03\x04", "is a zip archive, as Keras and PyTorch write them, which can hold code; export it to ONNX (docs/MODELS.md)"),
    (b"\x93NUMPY", "is an array of NumPy and no model; export the model itself (docs/MODELS.md)"),
    (b"\x1f\x8b", "is compressed; unpack it first"),
    (b"\x78\x9c", "is compressed, as joblib does with pickles, which execute code when they are read; export it (docs/MODELS.md)"),
    (b"{", "is JSON; of LightGBM the text of save_model is read, and other libraries export to ONNX (docs/MODELS.md)"),
    (b"<", "is XML; export it to ONNX (docs/MODELS.md)"),
    (b"binf", "is XGBoost's own form; export it to ONNX (docs/MODELS.md)"),
];

/// A pickle is a program for the machine that reads it.
const PICKLE: &str = "is a pickle, which executes code when it is read, so it never is; of LightGBM save it with \
                      booster_.save_model(\"model.txt\"), of scikit-learn convert it with skl2onnx (docs/MODELS.md)";

/// The form of a file.
///
/// - `asked`: what the config says it is.
///
/// # Errors
/// If it is in no form that is read, or not in that one.
pub fn of(bytes: &[u8], asked: Option<Format>) -> Result<Format, ModelError> {
    let wrong = |what: &str| Err(ModelError::new(what.to_owned()));
    if bytes.is_empty() {
        return wrong("is empty; copy it anew");
    }
    if is_pickle(bytes) {
        return wrong(PICKLE);
    }
    let found = if lightgbm::is_text(bytes) {
        Format::LightGbm
    } else if is_onnx(bytes) {
        Format::Onnx
    } else {
        let other = OTHERS.iter().find(|(begin, _)| bytes.starts_with(begin)).map(|(_, what)| *what);
        return wrong(other.unwrap_or("is neither LightGBM's text nor ONNX; see docs/MODELS.md for how to export one"));
    };
    match (asked, found) {
        (Some(Format::LightGbm), Format::Onnx) => wrong("is in ONNX form, and format says lightgbm; remove format, or name another file"),
        (Some(Format::Onnx), Format::LightGbm) => wrong("is LightGBM's text, and format says onnx; remove format, or name another file"),
        _ => Ok(found),
    }
}

/// True for pickles: from protocol 2 on they begin with its number, older ones are lines of opcodes.
fn is_pickle(bytes: &[u8]) -> bool {
    match bytes {
        [0x80, 2..=5, ..] => true,
        // A global by module and name, or a mark and what is built on it.
        [b'c', rest @ ..] => {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            rest.len() > line.len()
                && !line.is_empty()
                && line.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
        }
        [b'(', b'd' | b'l' | b'i' | b'c' | b't', ..] => true,
        _ => false,
    }
}

/// True for what begins as a `ModelProto` does: its first field is the version of the form, a small number.
fn is_onnx(bytes: &[u8]) -> bool {
    // Field 1 as a number, then any other field of the message: 2 to 8 as lengths, 5 as a number, 14 and 20 and 25 as lengths.
    matches!(bytes, [0x08, 1..=30, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72 | 0xa2 | 0xca, ..])
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_known_by_its_first_bytes() {
        for (bytes, form) in [
            (&b"tree\nversion=v4\n"[..], Format::LightGbm),
            (b"tree\r\nversion=v4\r\n", Format::LightGbm),
            (b"\x08\x08\x12\x07skl2onnx", Format::Onnx),
            (b"\x08\x0a\x3a\x05", Format::Onnx),
        ] {
            assert_eq!(of(bytes, None), Ok(form), "{bytes:?}");
            assert_eq!(of(bytes, Some(form)), Ok(form));
        }
        assert!(of(b"tree\n", Some(Format::Onnx)).unwrap_err().to_string().contains("remove format"));
        assert!(of(b"\x08\x08\x12", Some(Format::LightGbm)).unwrap_err().to_string().contains("remove format"));
    }

    #[test]
    fn what_executes_code_is_named_and_refused_with_the_remedy() {
        for (bytes, expected) in [
            (&b"\x80\x04\x95\x1a"[..], "is a pickle"),
            (b"\x80\x02csklearn.ensemble\n", "is a pickle"),
            (b"ccopy_reg\n_reconstructor\n", "is a pickle"),
            (b"(dp0\nS'a'\n", "is a pickle"),
            (b"\x89HDF\r\n\x1a\n\x00", "is HDF5"),
            (b"PK\x03\x04\x14", "is a zip archive"),
            (b"\x78\x9c\xed", "as joblib does"),
            (b"{\"name\":\"tree\"}", "is JSON"),
            (b"<PMML>", "is XML"),
            (b"\x1f\x8b\x08", "unpack it first"),
            (b"", "is empty"),
            (b"hello", "is neither"),
        ] {
            let error = of(bytes, None).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(';'), "{bytes:?}: {error}");
        }
    }
}
