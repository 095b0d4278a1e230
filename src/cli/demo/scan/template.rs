//! Files of our own, and what the rules of the demo find in them. Pure.

/// The rules.
pub(super) const RULES: &str = r##"
rule demo_letter {
    meta:
        description = "A letter of the demo"
        severity = 5
    strings:
        $greeting = "Dear colleague of the shipper demo"
    condition:
        $greeting
}

rule demo_script {
    meta:
        description = "A script of the demo"
        severity = "high"
    strings:
        $shebang = "#!/bin/sh"
        $mark = "shipper_demo_payload"
    condition:
        $shebang at 0 and $mark
}
"##;

/// What must be found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// Names of rules, sorted.
    pub rules: &'static [&'static str],
    /// Its bytes are those of an earlier file.
    pub is_repeat: bool,
}

/// Files in a round.
const ROUND: u64 = 8;

/// The n-th file's name, as Zeek gives it.
pub(super) fn name(n: u64) -> String {
    format!("extract-17731{:05}.{:06}-HTTP-FDemo{n:012}", n / 1000, n % 1000)
}

/// True if its writer pauses in the middle.
pub(super) fn is_slow(n: u64) -> bool {
    n % ROUND == 6
}

/// The n-th file.
pub(super) fn file(n: u64) -> (Vec<u8>, Expected) {
    let filler = |lines: u64| (0..lines).map(|line| format!("line {line} of file {n}\n")).collect::<String>();
    let (bytes, rules, is_repeat): (Vec<u8>, &[&str], bool) = match n % ROUND {
        0 => (format!("{}Dear colleague of the shipper demo,\n{}", filler(3), filler(20)).into_bytes(), &["demo_letter"], false),
        1 => (format!("#!/bin/sh\n# {n}\nshipper_demo_payload\n").into_bytes(), &["demo_script"], false),
        2 => (
            format!("#!/bin/sh\n# {n}\n# Dear colleague of the shipper demo\nshipper_demo_payload\n").into_bytes(),
            &["demo_letter", "demo_script"],
            false,
        ),
        // The same bytes in every round.
        3 => (b"#!/bin/sh\nshipper_demo_payload # the same each time\n".to_vec(), &["demo_script"], n >= ROUND),
        4 => ([b"\x7fELF\x02\x01\x01".as_slice(), &n.to_le_bytes(), &[0; 4096]].concat(), &[], false),
        5 => (format!("# no script: shipper_demo_payload {n}\n#!/bin/sh\n").into_bytes(), &[], false),
        6 => (filler(400).into_bytes(), &[], false),
        _ => (format!("{{\"file\":{n},\"says\":\"nothing\"}}\n").into_bytes(), &[], false),
    };
    (bytes, Expected { rules, is_repeat })
}
