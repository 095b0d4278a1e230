//! Alerts as text with holes, split once, filled many times.
//!
//! A template is the line as Wazuh would write it, with slots `<<name>>`. What a slot gives is a
//! pure function of (alert's seed, slot's name): the same name twice in one alert is the same
//! value twice, which is how a message text and its event data agree. A trailing digit makes
//! another value of the same sort (`<<ip>>` and `<<ip2>>`); `<<+name>>` is replaced by a fragment
//! before anything else; a trailing `!` on a word list doubles its backslashes once more, as
//! Windows event data has them.
//!
//! Refuses to know what an alert means. Start at [`Template::parse`] and [`Template::fill`].

use super::{stamp::Moment, words};

/// A template, split.
#[derive(Debug)]
pub(super) struct Template {
    text: Vec<u8>,
    lists: Vec<Vec<Vec<u8>>>,
    pieces: Vec<Piece>,
}

/// What the slots draw from besides their seed.
#[derive(Debug)]
pub(super) struct Cast<'c> {
    /// Seed of this alert.
    pub seed: u64,
    pub moment: &'c Moment,
    /// `"id":…,"name":…,"ip":…` of the agent, its name, and the manager's name.
    pub agent: &'c [u8],
    pub host: &'c [u8],
    pub manager: &'c [u8],
    /// Number of the alert, and how often its rule has fired.
    pub ordinal: u64,
    pub fired: u64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    kind: Slot,
    salt: u64,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Text {
        start: u32,
        end: u32,
    },
    /// Number of a list in `lists`.
    Word(u32),
    Number {
        low: u64,
        span: u64,
    },
    Hex {
        digits: u8,
        upper: bool,
    },
    Ordinal,
    Fired,
    Agent,
    Host,
    Manager,
    Stamp(Stamp),
    Ip4,
    Ip6,
    Lan,
    Guid,
    Sid,
    /// Words of prose, from `low` to `low + span`; lines of a diff, if `lines`.
    Prose {
        low: u64,
        span: u64,
        lines: bool,
    },
}

/// Forms of the alert's time.
#[derive(Clone, Copy, Debug)]
enum Stamp {
    /// `2026-03-14T06:25:12.004+0100`, when the manager got it.
    Alert,
    /// Seconds since 1970.
    Epoch,
    /// `Mar 14 06:25:11`
    Syslog,
    /// `2026-03-14 06:25:11`
    Plain,
    /// `417`: the event's milliseconds.
    Millis,
    /// `2026-03-14T06:25:11`, the zone cut off as syscheck does.
    Bare,
    /// `2026-03-14T05:25:11.4170021Z`
    Utc,
    /// `14/Mar/2026:06:25:11 +0100`
    Web,
}

/// Slots with a meaning of their own: name, what it gives.
const SLOTS: &[(&str, Slot)] = &[
    ("ts", Slot::Stamp(Stamp::Alert)),
    ("epoch", Slot::Stamp(Stamp::Epoch)),
    ("syslog", Slot::Stamp(Stamp::Syslog)),
    ("plain", Slot::Stamp(Stamp::Plain)),
    ("ms", Slot::Stamp(Stamp::Millis)),
    ("bare", Slot::Stamp(Stamp::Bare)),
    ("utc", Slot::Stamp(Stamp::Utc)),
    ("web", Slot::Stamp(Stamp::Web)),
    ("ordinal", Slot::Ordinal),
    ("fired", Slot::Fired),
    ("agent", Slot::Agent),
    ("host", Slot::Host),
    ("manager", Slot::Manager),
    ("ip", Slot::Ip4),
    ("ipv6", Slot::Ip6),
    ("lan", Slot::Lan),
    ("guid", Slot::Guid),
    ("sid", Slot::Sid),
    ("pid", Slot::Number { low: 300, span: 64_000 }),
    ("tid", Slot::Number { low: 40, span: 30_000 }),
    ("port", Slot::Number { low: 1024, span: 64_000 }),
    ("record", Slot::Number { low: 10_000, span: 9_000_000 }),
    ("count", Slot::Number { low: 2, span: 90 }),
    ("score", Slot::Number { low: 20, span: 70 }),
    ("size", Slot::Number { low: 120, span: 400_000 }),
    ("inode", Slot::Number { low: 130_000, span: 4_000_000 }),
    ("big", Slot::Number { low: 100_000_000, span: 2_000_000_000 }),
    ("year", Slot::Number { low: 2016, span: 10 }),
    ("two", Slot::Number { low: 10, span: 18 }),
    ("cve", Slot::Number { low: 1000, span: 48_000 }),
    ("logon", Slot::Hex { digits: 8, upper: false }),
    ("LOGON", Slot::Hex { digits: 8, upper: true }),
    ("hex", Slot::Hex { digits: 8, upper: false }),
    ("md5", Slot::Hex { digits: 32, upper: false }),
    ("sha1", Slot::Hex { digits: 40, upper: false }),
    ("sha256", Slot::Hex { digits: 64, upper: false }),
    ("prose", Slot::Prose { low: 12, span: 60, lines: false }),
    ("essay", Slot::Prose { low: 150, span: 350, lines: false }),
    ("diff", Slot::Prose { low: 40, span: 400, lines: true }),
];

impl Template {
    /// Splits a template. Fragments (`<<+name>>`) come from `fragments`.
    ///
    /// # Panics
    /// If a slot or fragment is unknown: templates are ours, and a test parses each.
    pub(super) fn parse(text: &str, fragments: &[(&str, &str)]) -> Self {
        let mut template = Self { text: Vec::new(), lists: Vec::new(), pieces: Vec::new() };
        template.add(text, fragments);
        template
    }

    fn add(&mut self, text: &str, fragments: &[(&str, &str)]) {
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("<<") {
            let (name, after) = after.split_once(">>").unwrap_or_else(|| panic!("slot without end in template: {after:.60}"));
            self.literal(before);
            match name.strip_prefix('+') {
                Some(name) => {
                    let (_, fragment) =
                        fragments.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no fragment {name:?}"));
                    self.add(fragment, fragments);
                }
                None => self.slot(name),
            }
            rest = after;
        }
        self.literal(rest);
    }

    fn slot(&mut self, name: &str) {
        let doubled = name.ends_with('!');
        let base = name.trim_end_matches('!');
        let bare = base.strip_suffix(|c: char| c.is_ascii_digit()).unwrap_or(base);
        // `md5` and `sha256` end in digits that belong to them: the exact name goes first.
        let known = |wanted: &str| SLOTS.iter().find(|(name, _)| *name == wanted).map(|(_, slot)| *slot);
        let kind = known(base).or_else(|| known(bare)).unwrap_or_else(|| {
            let words = words::list(bare, doubled).unwrap_or_else(|| panic!("no slot and no word list {name:?}"));
            self.lists.push(words);
            Slot::Word(self.lists.len() as u32 - 1)
        });
        // `<<logon>>` and `<<LOGON>>` are one number in two spellings.
        let salt = base.to_ascii_lowercase().bytes().fold(0, |hash: u64, byte| mix(hash ^ u64::from(byte)));
        self.pieces.push(Piece { kind, salt });
    }

    fn literal(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let start = self.text.len() as u32;
        self.text.extend_from_slice(text.as_bytes());
        let end = self.text.len() as u32;
        match self.pieces.last_mut() {
            Some(Piece { kind: Slot::Text { end: last, .. }, .. }) if *last == start => *last = end,
            _ => self.pieces.push(Piece { kind: Slot::Text { start, end }, salt: 0 }),
        }
    }

    /// Appends the template with its slots filled.
    pub(super) fn fill(&self, cast: &Cast<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            let draw = mix(cast.seed ^ piece.salt);
            match piece.kind {
                Slot::Text { start, end } => out.extend_from_slice(&self.text[start as usize..end as usize]),
                Slot::Word(list) => {
                    let words = &self.lists[list as usize];
                    out.extend_from_slice(&words[below(draw, words.len() as u64) as usize]);
                }
                Slot::Number { low, span } => put_number(out, low + below(draw, span)),
                Slot::Hex { digits, upper } => put_hex(out, draw, digits, upper),
                Slot::Ordinal => put_number(out, cast.ordinal),
                Slot::Fired => put_number(out, cast.fired),
                Slot::Agent => out.extend_from_slice(cast.agent),
                Slot::Host => out.extend_from_slice(cast.host),
                Slot::Manager => out.extend_from_slice(cast.manager),
                Slot::Stamp(form) => put_stamp(out, form, cast.moment, cast.seed),
                Slot::Ip4 => put_ip4(out, NETS[below(draw, NETS.len() as u64) as usize], draw >> 24),
                Slot::Lan => put_ip4(out, 10, draw >> 24),
                Slot::Ip6 => put_ip6(out, draw),
                Slot::Guid => put_guid(out, draw),
                Slot::Sid => put_sid(out, draw),
                Slot::Prose { low, span, lines } => put_prose(out, draw, low + below(draw, span), lines),
            }
        }
    }
}

/// A number that no pattern in `x` survives (the finaliser of SplitMix64).
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A number below `n`, from the upper half of the draw; `n` is less than 2^32.
pub(super) fn below(draw: u64, n: u64) -> u64 {
    ((draw >> 32) * n) >> 32
}

/// First bytes of networks that are routed on the internet.
const NETS: &[u8] = &[5, 31, 37, 45, 62, 77, 80, 91, 94, 103, 113, 141, 178, 185, 193, 212];

/// Two digits for each number below 100, two nibbles for each byte.
static DECIMAL: [[u8; 2]; 100] = {
    let mut table = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        table[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    table
};
static LOWER: [[u8; 2]; 256] = nibbles(b"0123456789abcdef");
static UPPER: [[u8; 2]; 256] = nibbles(b"0123456789ABCDEF");

const fn nibbles(digits: &[u8; 16]) -> [[u8; 2]; 256] {
    let mut table = [[0; 2]; 256];
    let mut n = 0;
    while n < 256 {
        table[n] = [digits[n >> 4], digits[n & 15]];
        n += 1;
    }
    table
}

/// Appends a number in decimal.
pub(super) fn put_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while n >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&DECIMAL[(n % 100) as usize]);
        n /= 100;
    }
    if n >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&DECIMAL[n as usize]);
    } else {
        at -= 1;
        digits[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an even number of digits, at most 64.
fn put_hex(out: &mut Vec<u8>, mut draw: u64, digits: u8, upper: bool) {
    let table = if upper { &UPPER } else { &LOWER };
    let mut text = [0; 64];
    for (n, pair) in text[..usize::from(digits)].chunks_exact_mut(2).enumerate() {
        if n % 8 == 0 && n > 0 {
            draw = mix(draw);
        }
        pair.copy_from_slice(&table[(draw >> (8 * (n % 8)) & 0xff) as usize]);
    }
    out.extend_from_slice(&text[..usize::from(digits)]);
}

fn put_stamp(out: &mut Vec<u8>, form: Stamp, moment: &Moment, seed: u64) {
    let digits3 =
        |out: &mut Vec<u8>, n: u64| out.extend_from_slice(&[b'0' + (n / 100) as u8, b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8]);
    match form {
        Stamp::Alert => {
            out.extend_from_slice(moment.local());
            out.push(b'.');
            digits3(out, moment.millis());
            out.extend_from_slice(moment.zone());
        }
        Stamp::Epoch => put_number(out, moment.epoch()),
        Stamp::Syslog => out.extend_from_slice(moment.syslog()),
        Stamp::Plain => {
            out.extend_from_slice(&moment.local()[..10]);
            out.push(b' ');
            out.extend_from_slice(&moment.local()[11..]);
        }
        Stamp::Millis => digits3(out, seed % 1000),
        Stamp::Bare => out.extend_from_slice(moment.local()),
        Stamp::Utc => {
            out.extend_from_slice(moment.utc());
            out.push(b'.');
            digits3(out, seed % 1000);
            put_number(out, 1000 + seed / 1000 % 9000);
            out.push(b'Z');
        }
        Stamp::Web => out.extend_from_slice(moment.web()),
    }
}

fn put_ip4(out: &mut Vec<u8>, first: u8, draw: u64) {
    put_number(out, u64::from(first));
    for shift in [0, 8, 16] {
        out.push(b'.');
        put_number(out, (draw >> shift & 0xff).clamp(1, 254));
    }
}

fn put_ip6(out: &mut Vec<u8>, draw: u64) {
    out.extend_from_slice(b"2a02:");
    let group = |out: &mut Vec<u8>, n: u64| {
        out.extend_from_slice([LOWER[16 + (n >> 8 & 0xef) as usize], LOWER[(n & 0xff) as usize]].as_flattened())
    };
    for (shift, colon) in [(0, b":".as_slice()), (16, b"::"), (32, b"")] {
        group(out, draw >> shift);
        out.extend_from_slice(colon);
    }
}

fn put_guid(out: &mut Vec<u8>, draw: u64) {
    out.push(b'{');
    for (n, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if n > 0 {
            out.push(b'-');
        }
        put_hex(out, mix(draw ^ n as u64), digits, false);
    }
    out.push(b'}');
}

fn put_sid(out: &mut Vec<u8>, draw: u64) {
    out.extend_from_slice(b"S-1-5-21");
    for n in [1, 2, 3] {
        // A domain's three numbers: few domains, many accounts.
        out.push(b'-');
        put_number(out, 500_000_000 + below(mix(draw % 4 * 8 + n), 3_500_000_000));
    }
    out.push(b'-');
    put_number(out, 500 + below(draw, 4000));
}

fn put_prose(out: &mut Vec<u8>, mut draw: u64, words: u64, lines: bool) {
    for n in 0..words {
        draw = mix(draw);
        if lines && n % 8 == 0 {
            out.extend_from_slice(match (n, draw % 3) {
                (0, _) => b"> ".as_slice(),
                (_, 0) => b"\\n< ",
                _ => b"\\n> ",
            });
        } else if n > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(words::PROSE[below(draw, words::PROSE.len() as u64) as usize].as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, seed: u64) -> String {
        let moment = Moment::new(1_773_465_912_004_000_000, 60);
        let cast = Cast { seed, moment: &moment, agent: b"{}", host: b"web-03", manager: b"m", ordinal: 7, fired: 3 };
        let mut out = Vec::new();
        Template::parse(text, &[("both", "<<ip>>/<<ordinal>>")]).fill(&cast, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_slot_is_the_same_value_within_one_alert() {
        for seed in 0..100 {
            let text = fill("<<ip>> <<ip>> <<ip2>>", seed);
            let parts: Vec<_> = text.split(' ').collect();
            assert_eq!(parts[0], parts[1]);
            assert_ne!(parts[0], parts[2]);
        }
        assert_ne!(fill("<<ip>>", 1), fill("<<ip>>", 2));
    }

    #[test]
    fn two_spellings_of_a_logon_are_one_number() {
        let text = fill("<<logon>> <<LOGON>>", 11);
        let (lower, upper) = text.split_once(' ').unwrap();
        assert_eq!(lower.to_ascii_uppercase(), upper);
    }

    #[test]
    fn times_are_written_as_wazuh_and_the_logs_write_them() {
        let text = fill("<<ts>>|<<epoch>>|<<syslog>>|<<plain>>|<<bare>>|<<web>>", 0);
        let expected =
            "2026-03-14T06:25:12.004+0100|1773465912|Mar 14 06:25:12|2026-03-14 06:25:12|2026-03-14T06:25:12|14/Mar/2026:06:25:12 +0100";
        assert_eq!(text, expected);
        assert!(fill("<<utc>>", 5).starts_with("2026-03-14T05:25:12."));
    }

    #[test]
    fn fragments_are_filled_like_the_rest() {
        assert!(fill("a <<+both>> b", 3).ends_with("/7 b"));
    }

    #[test]
    fn addresses_are_addresses() {
        for seed in 0..500 {
            fill("<<ip>>", seed).parse::<std::net::Ipv4Addr>().unwrap();
            let six = fill("<<ipv6>>", seed);
            assert!(six.parse::<std::net::Ipv6Addr>().is_ok(), "{six}");
        }
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for n in [0, 9, 10, 99, 100, 101, 12_345, 999_999, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, n);
            assert_eq!(out, n.to_string().as_bytes());
        }
    }

    #[test]
    #[should_panic(expected = "no slot and no word list \"nonsense\"")]
    fn an_unknown_slot_is_our_mistake() {
        fill("<<nonsense>>", 0);
    }
}
