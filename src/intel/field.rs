//! What the names on the way to a text say of it, and what a key before a word does.

use std::{cell::OnceCell, fmt::Write};

use crate::limits;

/// One step of the way from the root of a record to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'k> {
    Name(&'k str),
    Index(usize),
}

/// The place of a text; what it says is worked out when something was found there.
pub struct Place<'k> {
    keys: &'k [Key<'k>],
    says: OnceCell<Says>,
}

/// What the names say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Says {
    /// Nothing at all is an indicator: a reference of a vendor.
    pub(super) reference: bool,
    /// No addresses, and why.
    pub(super) no_ip: Option<&'static str>,
    /// No names and e-mail addresses, and why.
    pub(super) no_name: Option<&'static str>,
    /// It holds the name of a host, so that `update.sh` is one.
    pub(super) host: bool,
    pub(super) ja3: bool,
    pub(super) imphash: bool,
    /// It holds arguments that auditd may have written as hexadecimal digits.
    pub(super) hex: bool,
}

/// Members that point to a vendor's page.
const REFERENCES: &[&str] = &["references", "reference", "permalink", "ref", "link"];
/// Members that name ourselves: who was logged in, to whom mail went, on which machine it happened.
const IDENTITIES: &[&str] = &[
    "userid",
    "userprincipalname",
    "principalemail",
    "srcuser",
    "dstuser",
    "rcpt_to",
    "computer",
    "targetusername",
    "subjectusername",
    "targetdomainname",
    "subjectdomainname",
    "workstationname",
    "mailboxownerupn",
    "upn",
    "alternateid",
];
/// Members that hold the name of a file.
const FILES: &[&str] = &[
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "originalfilename",
    "targetfilename",
    "path",
    "image",
    "parentimage",
    "sourceimage",
    "targetimage",
    "imageloaded",
    "processname",
    "process_name",
    "newprocessname",
    "parentprocessname",
    "servicefilename",
    "value_name",
];
/// Members that hold the name of a host, and words after which one stands.
const HOSTS: &[&str] = &[
    "query",
    "queries",
    "queryname",
    "query_name",
    "rrname",
    "rdata",
    "hostname",
    "http_host",
    "host",
    "domain",
    "sni",
    "server_name",
    "dns_query",
    "dnsquery",
    "destinationhostname",
    "cname",
    "ns",
    "mx",
    "dsthost",
    "dhost",
    "srchost",
    "shost",
    "rhost",
    "fqdn",
    "qname",
];
/// Words before an address that is a version.
const VERSIONS: &[&str] = &["v", "ver", "vers", "release", "firmware", "build", "rev", "revision", "oid", "rv"];
/// Words before the name of a person.
const USERS: &[&str] = &["user", "username", "account", "acct", "login", "logname", "ruser", "sudo", "su"];
/// Words before a name that only looks like an e-mail address.
const MESSAGE_IDS: &[&str] = &["message-id", "message_id", "messageid", "msgid", "in-reply-to"];

fn is_one(word: &str, known: &[&str]) -> bool {
    known.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn has(word: &str, part: &str) -> bool {
    word.len() >= part.len() && word.as_bytes().windows(part.len()).any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}

impl<'k> Place<'k> {
    /// The place at the end of these steps.
    pub fn new(keys: &'k [Key<'k>]) -> Self {
        Self { keys, says: OnceCell::new() }
    }

    /// The way in one line, `data.dns.answers[0].rdata`, cut at [`limits::IOC_FIELD_BYTES`].
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for key in self.keys {
            if path.len() > limits::IOC_FIELD_BYTES {
                break;
            }
            let _ = match key {
                // What is longer than the limit is cut below, and may be as long as an alert.
                Key::Name(name) => {
                    let name = name.get(..name.floor_char_boundary(limits::IOC_FIELD_BYTES)).unwrap_or_default();
                    write!(path, "{}{name}", if path.is_empty() { "" } else { "." })
                }
                Key::Index(n) => write!(path, "[{n}]"),
            };
        }
        path.truncate(path.floor_char_boundary(limits::IOC_FIELD_BYTES));
        path
    }

    pub(super) fn says(&self) -> Says {
        *self.says.get_or_init(|| {
            // Only the last few: an alert may be nested deep, and hold many texts down there.
            let names = || {
                self.keys.iter().skip(self.keys.len().saturating_sub(8)).filter_map(|key| match key {
                    // No name of ours is longer, and what is may be as long as an alert.
                    Key::Name(name) => Some(*name).filter(|name| name.len() <= 64),
                    Key::Index(_) => None,
                })
            };
            let last = names().next_back().unwrap_or_default();
            let is_agent = |name: &str| ["user_agent", "useragent", "user-agent"].iter().any(|agent| has(name, agent));
            Says {
                reference: is_one(last, REFERENCES),
                no_ip: match last {
                    _ if has(last, "version") || is_one(last, VERSIONS) => Some("version_field"),
                    _ if names().any(is_agent) => Some("user_agent"),
                    _ => None,
                },
                no_name: match last {
                    _ if is_one(last, IDENTITIES) => Some("identity_field"),
                    _ if is_one(last, FILES) => Some("file_name"),
                    _ => None,
                },
                host: is_one(last, HOSTS),
                ja3: names().any(|name| name.get(..3).is_some_and(|head| head.eq_ignore_ascii_case("ja3"))),
                imphash: last.eq_ignore_ascii_case("imphash"),
                hex: names().any(|name| name.eq_ignore_ascii_case("execve")) || last.eq_ignore_ascii_case("proctitle"),
            }
        })
    }
}

/// The word before a word, and what is between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Before<'t> {
    pub(super) word: &'t str,
    /// Between the two: blanks, quotes, `=`, `:` and opening brackets.
    marks: &'t str,
    /// The character before the word.
    lead: Option<char>,
    /// What is left before the word.
    rest: &'t str,
}

impl<'t> Before<'t> {
    /// The word at the end of `back`, the last bytes before a word.
    pub(super) fn of(back: &'t str) -> Self {
        let is_mark = |c: char| matches!(c, ' ' | '\t' | '"' | '\'' | '=' | ':' | '(' | '[' | '<' | '{' | '\\');
        let head = back.trim_end_matches(is_mark);
        let rest = head.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
        Self {
            word: head.get(rest.len()..).unwrap_or_default(),
            marks: back.get(head.len()..).unwrap_or_default(),
            lead: rest.chars().next_back(),
            rest,
        }
    }

    /// True for a key: `key=…`, `"key":…`, `\"key\":…`, and no parameter of a URL.
    fn is_key(&self) -> bool {
        let quoted = self.marks.trim_start_matches('\\').strip_prefix('"').is_some_and(|marks| marks.trim_start().starts_with(':'));
        (quoted || self.marks.starts_with('=')) && !matches!(self.lead, Some('?' | '&'))
    }

    pub(super) fn is_reference(&self) -> bool {
        self.is_key() && is_one(self.word, REFERENCES)
    }
    pub(super) fn is_identity(&self) -> bool {
        self.is_key() && is_one(self.word, IDENTITIES)
    }
    pub(super) fn is_user(&self) -> bool {
        !self.marks.is_empty() && is_one(self.word, USERS)
    }
    pub(super) fn is_message_id(&self) -> bool {
        !self.marks.is_empty() && is_one(self.word, MESSAGE_IDS)
    }
    pub(super) fn is_host(&self) -> bool {
        !self.marks.is_empty() && is_one(self.word, HOSTS)
    }
    pub(super) fn is_version(&self) -> bool {
        let word = self.word.trim_end_matches('.');
        let end = word.get(word.len().saturating_sub(7)..).unwrap_or_default();
        !self.marks.is_empty() && (end.eq_ignore_ascii_case("version") || is_one(word, VERSIONS))
    }
    /// `a2=` and its kin, after which auditd writes hexadecimal digits instead of text with blanks in it.
    pub(super) fn is_argument(&self) -> bool {
        let number = self.word.strip_prefix('a').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        self.marks.starts_with('=') && (number || is_one(self.word, &["proctitle", "cmd"]))
    }
    /// The option of PowerShell that takes base 64, as short as PowerShell takes it.
    pub(super) fn is_encoded(&self) -> bool {
        let word = self.word.trim_start_matches(['-', '/']);
        let is_prefix = |full: &str| full.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        word.len() < self.word.len() && !word.is_empty() && !self.marks.is_empty() && (is_prefix("encodedcommand") || is_prefix("ec"))
    }
    pub(super) fn is_imphash(&self) -> bool {
        self.word.eq_ignore_ascii_case("imphash")
    }
    pub(super) fn is_ja3(&self) -> bool {
        let names = ["ja3", "ja3s", "ja3_hash", "ja3s_hash", "ja3.hash", "ja3s.hash"];
        let is_hash = self.word.eq_ignore_ascii_case("hash");
        is_one(self.word, &names) || (is_hash && is_one(Before::of(self.rest).word, &["ja3", "ja3s"]))
    }
    /// `for NAME from`, as sshd writes it.
    pub(super) fn is_for(&self) -> bool {
        self.word == "for"
    }
}
