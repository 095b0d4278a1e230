//! Names of hosts: which words are one, their normal form, and which of them mean nobody.

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
    sync::LazyLock,
};

/// Bytes of a name, and of one label (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Top-level domains as IANA lists them, in lower case and punycode: a line each.
const TLDS: &str = include_str!("tlds.txt");
/// Asked for every word with a dot.
static TLD_SET: LazyLock<HashSet<&'static [u8], BuildHasherDefault<Fnv>>> = LazyLock::new(|| TLDS.lines().map(str::as_bytes).collect());
/// Bytes of the longest of them, with room.
const TLD_MAX: usize = 32;

/// Suffixes that are also types of files or of systemd's units: too many words end with them.
const FILE_TYPES: &[&str] = &[
    "cab",
    "data",
    "dot",
    "inc",
    "java",
    "map",
    "md",
    "mk",
    "mo",
    "mov",
    "pf",
    "pl",
    "pm",
    "properties",
    "ps",
    "pub",
    "py",
    "rs",
    "sh",
    "so",
    "target",
    "zip",
];

/// Names under these are never somebody on the Internet (RFC 2606, RFC 6761, RFC 6762, RFC 9476, ICANN for `internal`).
const RESERVED: &[&str] = &[
    "alt",
    "arpa",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "private",
    "test",
    "workgroup",
];
const RESERVED_NAMES: &[&str] = &["example.com", "example.net", "example.org", "example.edu"];

/// Names of products that are written like a host.
const PRODUCTS: &[&str] =
    &["ado.net", "asp.net", "java.io", "java.net", "javax.net", "kotlin.io", "scala.io", "socket.io", "sun.net", "system.net", "vb.net"];

/// First labels of packages in code: a long name that begins so is one, unless its place wants a host.
pub(super) const PACKAGES: &[&str] =
    &["com", "org", "net", "java", "javax", "javafx", "io", "sun", "jdk", "kotlin", "scala", "android", "androidx"];
/// First labels of name spaces in code, and of what virus scanners call what they found.
const SPACES: &[&str] = &[
    "System",
    "Microsoft",
    "Windows",
    "Trojan",
    "Backdoor",
    "Worm",
    "Win",
    "Win32",
    "Win64",
    "Html",
    "Heuristics",
    "Unix",
    "Doc",
    "Js",
    "Php",
];
/// First of two labels that are a variable and its member.
pub(super) const VARIABLES: &[&str] =
    &["this", "self", "window", "document", "console", "process", "module", "request", "response", "event"];

/// Two-letter suffixes that are English words: `failed.It` is the end of a sentence.
const WORDS: &[&str] = &["Am", "As", "At", "Be", "By", "Do", "In", "Is", "It", "Me", "My", "No", "So", "To", "Us"];

/// The normal form of a name: lower case, punycode, without the root's dot and `*.`.
///
/// # Errors
/// Why it is none; `not_a_name` means that it does not even look like one.
pub(super) fn form(word: &str) -> Result<String, &'static str> {
    let word = word.strip_prefix("*.").unwrap_or(word);
    let word = word.strip_suffix('.').unwrap_or(word);
    // In UTF-8 a letter may take four bytes and leave as one.
    if word.len() > 4 * NAME_MAX || !word.contains('.') {
        return Err("not_a_name");
    }
    let name = if word.is_ascii() { Cow::Owned(word.to_ascii_lowercase()) } else { unicode(word)?.into() };
    for label in name.split('.') {
        let bytes = label.as_bytes();
        if bytes.len() > LABEL_MAX {
            return Err("label_too_long");
        }
        let is_ldh = bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !is_ldh || !bytes.iter().any(u8::is_ascii_alphanumeric) || bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
            return Err("not_a_name");
        }
    }
    if name.len() > NAME_MAX {
        return Err("name_too_long");
    }
    if last_label(&name).bytes().all(|b| b.is_ascii_digit()) {
        return Err("not_a_name");
    }
    Ok(name.into_owned())
}

/// The name that a word is, if it may mean somebody on the Internet.
///
/// - `host`: the place wants a host: then `update.sh` is one, and `com.acme.app` too.
///
/// # Errors
/// Why it is none. `not_a_name` means that it does not even look like one.
pub(super) fn judge(word: &str, host: bool) -> Result<String, &'static str> {
    // Most words with a dot are names of files and versions; their end tells soonest.
    let top = last_label(word.strip_suffix('.').unwrap_or(word));
    let (is_plain, is_known) = (top.is_ascii(), is_top(top));
    if is_plain && !is_known && !top.eq_ignore_ascii_case("onion") {
        return Err(if RESERVED.iter().any(|known| known.eq_ignore_ascii_case(top)) { "reserved_name" } else { "unknown_tld" });
    }
    let name = form(word)?;
    let top = last_label(&name);
    if top == "onion" {
        return if is_onion(&name) { Ok(name) } else { Err("not_an_onion") };
    }
    if RESERVED.contains(&top) || RESERVED_NAMES.iter().any(|reserved| is_below(&name, reserved)) {
        return Err("reserved_name");
    }
    if !is_plain && !is_top(top) {
        return Err("unknown_tld");
    }
    if !host {
        if FILE_TYPES.contains(&top) {
            return Err("file_type");
        }
        if is_code(word, &name) {
            return Err("code");
        }
    }
    Ok(name)
}

/// True if `name` is `top` or below it.
pub(super) fn is_below(name: &str, top: &str) -> bool {
    name.strip_suffix(top).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn last_label(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// A word that is written like a host, and is a package, a variable, a product or two sentences.
fn is_code(word: &str, name: &str) -> bool {
    let first = word.split('.').next().unwrap_or_default();
    let labels = name.split('.').count();
    let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_'));
    let sentence = labels == 2 && WORDS.contains(&last_label(word)) && first.bytes().all(|b| b.is_ascii_lowercase());
    (plain && labels > 2 && PACKAGES.contains(&first))
        || SPACES.contains(&first)
        || (labels == 2 && VARIABLES.contains(&first))
        || PRODUCTS.contains(&name)
        || sentence
}

/// True for a top-level domain of the root zone, in any case, in punycode.
fn is_top(top: &str) -> bool {
    let mut buffer = [0; TLD_MAX];
    let Some(lower) = buffer.get_mut(..top.len()) else { return false };
    lower.copy_from_slice(top.as_bytes());
    lower.make_ascii_lowercase();
    TLD_SET.contains(&*lower)
}

/// FNV-1a: quick for some bytes. What is looked for in a set that is our own cannot flood it.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    }
    fn write_usize(&mut self, n: usize) {
        self.0 = (self.0 ^ n as u64).wrapping_mul(0x100_0000_01b3);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// 56 letters of base 32 before `.onion` (version 3), or 16 (version 2).
fn is_onion(name: &str) -> bool {
    let label = name.strip_suffix(".onion").map(last_label).unwrap_or_default();
    matches!(label.len(), 16 | 56) && label.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'2'..=b'7'))
}

/// A name with letters beyond ASCII, by UTS 46.
fn unicode(word: &str) -> Result<String, &'static str> {
    // UTS 46 would drop these without a word, and make a name of what was two.
    if word.chars().any(is_invisible) {
        return Err("invisible_character");
    }
    idna::domain_to_ascii(word).map_err(|_| "not_a_name")
}

/// Characters that are not seen and that UTS 46 ignores.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}')
}
