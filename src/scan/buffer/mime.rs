//! What bytes are, by their first ones: libmagic's names, which Zeek and filters of others know.
//!
//! A small table on purpose: the name serves filters and people. No rule and no unpacking depends on it.

/// Never empty; `application/octet-stream` where nothing is known.
pub fn of(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() {
        return "application/x-empty";
    }
    let known = MAGIC.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    match known {
        Some((.., "application/zip")) => zip(bytes),
        Some((.., mime)) => mime,
        None => text(bytes),
    }
}

/// Offset, bytes, name; the first that fits.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, b"MZ", "application/x-dosexec"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"\xfe\xed\xfa\xce", "application/x-mach-o-executable"),
    (0, b"\xfe\xed\xfa\xcf", "application/x-mach-o-executable"),
    (0, b"\xce\xfa\xed\xfe", "application/x-mach-o-executable"),
    (0, b"\xcf\xfa\xed\xfe", "application/x-mach-o-executable"),
    (0, b"\xca\xfe\xba\xbe\0\0\0", "application/x-mach-o-executable"),
    (0, b"\xca\xfe\xba\xbe", "application/x-java-applet"),
    (0, b"dex\n", "application/vnd.android.dex"),
    (0, b"\0asm", "application/wasm"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"PK\x05\x06", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
    (257, b"ustar", "application/x-tar"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\0", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/x-rar"),
    (0, b"MSCF", "application/vnd.ms-cab-compressed"),
    (0, b"!<arch>\n", "application/x-archive"),
    (32769, b"CD001", "application/x-iso9660-image"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"{\\rtf", "text/rtf"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"L\0\0\0\x01\x14\x02\0", "application/x-ms-shortcut"),
    (0, b"ITSF", "application/vnd.ms-htmlhelp"),
    (0, b"\xd4\xc3\xb2\xa1", "application/vnd.tcpdump.pcap"),
    (0, b"\xa1\xb2\xc3\xd4", "application/vnd.tcpdump.pcap"),
    (0, b"\x0a\x0d\x0d\x0a", "application/x-pcapng"),
    (0, b"SQLite format 3\0", "application/vnd.sqlite3"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"AVI ", "video/x-msvideo"),
    (8, b"WAVE", "audio/x-wav"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"\0\0\x01\0", "image/vnd.microsoft.icon"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"OggS", "application/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
    (0, b"CWS", "application/x-shockwave-flash"),
    (0, b"FWS", "application/x-shockwave-flash"),
    (0, b"-----BEGIN ", "application/x-pem-file"),
    (0, b"#!", "text/x-shellscript"),
    (0, b"<?php", "text/x-php"),
    (0, b"<?xml", "text/xml"),
];

/// Documents and programs that are ZIP files, by the name of a first member.
fn zip(bytes: &[u8]) -> &'static str {
    let head = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
    let has = |name: &[u8]| head.windows(name.len()).any(|window| window == name);
    if bytes.get(30..).is_some_and(|rest| rest.starts_with(b"mimetypeapplication/epub+zip")) {
        "application/epub+zip"
    } else if bytes.get(30..).is_some_and(|rest| rest.starts_with(b"mimetypeapplication/vnd.oasis.opendocument")) {
        "application/vnd.oasis.opendocument"
    } else if has(b"word/") {
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    } else if has(b"xl/") {
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    } else if has(b"ppt/") {
        "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    } else if has(b"AndroidManifest.xml") {
        "application/vnd.android.package-archive"
    } else if has(b"META-INF/") {
        "application/java-archive"
    } else {
        "application/zip"
    }
}

fn text(bytes: &[u8]) -> &'static str {
    let head = bytes.get(..bytes.len().min(8192)).unwrap_or_default();
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return "text/plain";
    }
    let is_control = |byte: &u8| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b) || *byte == 0x7f;
    // A letter may be cut at the end of what is looked at.
    let is_utf8 = std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    if !is_utf8 || head.iter().any(is_control) {
        return "application/octet-stream";
    }
    let start: Vec<u8> = head.trim_ascii_start().iter().take(64).map(u8::to_ascii_lowercase).collect();
    let begins = |mark: &str| start.starts_with(mark.as_bytes());
    if begins("<!doctype html") || begins("<html") || begins("<head") || begins("<script") || begins("<body") {
        "text/html"
    } else if begins("{\"") || begins("[{") {
        "application/json"
    } else {
        "text/plain"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, expected) in [
            (&b""[..], "application/x-empty"),
            (b"MZ\0", "application/x-dosexec"),
            (b"\x7fELF\x02", "application/x-executable"),
            (b"PK\x03\x04", "application/zip"),
            (b"PK\x03\x04\0\0word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            (&tar, "application/x-tar"),
            (b"%PDF-1.4", "application/pdf"),
            (b"hello", "text/plain"),
            ("größe".as_bytes(), "text/plain"),
            (&"größe".as_bytes()[..4], "text/plain"),
            (b"\xff\xfeh\0", "text/plain"),
            (b" <!DOCTYPE HTML>", "text/html"),
            (b"{\"a\":1}", "application/json"),
            (b"a\0b", "application/octet-stream"),
            (b"\xe9t\xe9", "application/octet-stream"),
        ] {
            assert_eq!(of(bytes), expected, "{bytes:?}");
        }
    }
}
