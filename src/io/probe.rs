//! Whether io_uring works here, asked before glommio is touched: it panics where it is refused,
//! and poisons the process for every later try.

use std::{fmt, str::FromStr};

use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Engine;

/// Bytes of RLIMIT_MEMLOCK below which glommio refuses to start.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// Entries of the ring that is tried: as many as glommio asks for.
const ENTRIES: u32 = 128;

/// Which engine the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// `uring` where it works, else `pread`.
    #[default]
    Auto,
    Uring,
    Pread,
}

impl FromStr for Asked {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "pread" => Ok(Self::Pread),
            _ => Err(format!("no engine {word:?}; known: auto, uring, pread")),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Pread => "pread",
        })
    }
}

/// Chooses the engine for all shards of this process, and says in one line which and why.
///
/// Raises the soft limit of locked memory to the hard one on the way.
///
/// # Errors
/// `uring` was asked for and cannot work here; the text names the remedy.
pub fn choose(asked: Asked) -> Result<(Engine, String), String> {
    if asked == Asked::Pread {
        return Ok((Engine::Pread, "engine pread: asked for".into()));
    }
    match (probe(), asked) {
        (Ok(()), Asked::Uring) => Ok((Engine::Uring, "engine uring: asked for, and io_uring works".into())),
        (Ok(()), _) => Ok((Engine::Uring, "engine uring: io_uring works".into())),
        (Err(refused), Asked::Uring) => Err(format!("cannot use engine uring: {}; {}, or use --engine auto", refused.what, refused.remedy)),
        (Err(refused), _) => Ok((Engine::Pread, format!("engine pread: {}", refused.what))),
    }
}

/// Why io_uring cannot be used here, and what would help.
struct Refused {
    what: String,
    remedy: &'static str,
}

const ALLOW: &str = "set kernel.io_uring_disabled=0 and allow io_uring in the container's seccomp profile";
const UPGRADE: &str = "use a kernel of 5.8 or later";

fn probe() -> Result<(), Refused> {
    let refused = |call: &str, e: std::io::Error, remedy| Refused { what: format!("{call}: {e}"), remedy };
    let ring = IoUring::new(ENTRIES).map_err(|e| refused("io_uring_setup", e, ALLOW))?;
    let mut known = Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|e| refused("io_uring_register", e, ALLOW))?;
    for (name, code) in [
        ("Read", opcode::Read::CODE),
        ("ReadFixed", opcode::ReadFixed::CODE),
        ("OpenAt", opcode::OpenAt::CODE),
        ("Statx", opcode::Statx::CODE),
        ("Close", opcode::Close::CODE),
        ("PollAdd", opcode::PollAdd::CODE),
        ("Timeout", opcode::Timeout::CODE),
        ("AsyncCancel", opcode::AsyncCancel::CODE),
    ] {
        if !known.is_supported(code) {
            return Err(Refused { what: format!("the kernel has no io_uring {name}"), remedy: UPGRADE });
        }
    }
    // An empty queue still enters the kernel.
    ring.submit().map_err(|e| refused("io_uring_enter", e, ALLOW))?;
    let bytes = raise_memlock();
    if bytes < MEMLOCK_BYTES_MIN {
        return Err(Refused {
            what: format!("RLIMIT_MEMLOCK is {bytes} bytes, glommio wants {MEMLOCK_BYTES_MIN}"),
            remedy: "set LimitMEMLOCK=64M in the unit, or the container's memlock ulimit",
        });
    }
    Ok(())
}

/// Raises the soft limit of locked memory to the hard one; gives the soft limit then, in bytes.
fn raise_memlock() -> u64 {
    let limit = getrlimit(Resource::Memlock);
    if limit.current != limit.maximum {
        // Where it is refused, the limit just stays what it is, and is read below.
        let _ = setrlimit(Resource::Memlock, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX)
}
