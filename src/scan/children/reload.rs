//! From rule files to a set that children can load: read here, compiled in a child, kept in memory and on disk.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use sha2::{Digest, Sha256};

use super::{Loaded, Program, ReloadError, process::Process};
use crate::{
    limits::RULE_COMPILED_BYTES,
    scan::{
        rules::{self, ENGINE, Sources, cache::Cache, compiled::Compiled, load::hex},
        settings,
    },
};

/// How the rules' files were when they were last read.
#[derive(Default)]
pub(super) struct Seen {
    stamp: [u8; 32],
}

impl Seen {
    pub(super) fn has_changed(&self, rules: &settings::Rules) -> bool {
        rules::stamp(&rules.paths) != self.stamp
    }
}

/// Loads the rules as they are now.
///
/// - `now`: the set in use; it stays if what is read is the same.
pub(super) fn set(
    program: &Program,
    settings: &settings::Rules,
    state: Option<&Path>,
    seen: &mut Seen,
    now: Option<&Arc<Loaded>>,
    force: bool,
) -> Result<Loaded, ReloadError> {
    // Before reading: what changes meanwhile is seen at the next look.
    seen.stamp = rules::stamp(&settings.paths);
    let sources = rules::load(&settings.paths);
    let key = key(&sources, settings.relaxed);
    let cache = state.map(Cache::new);
    let kept = cache.as_ref().and_then(|cache| cache.get(&key)).and_then(|bytes| Some((Compiled::from_bytes(&bytes).ok()?, bytes)));
    let kept = kept.filter(|(compiled, _)| compiled.view.engine == ENGINE && compiled.view.version == sources.version);
    let (compiled, bytes, is_new) = match kept {
        Some((compiled, bytes)) => (compiled, bytes, false),
        None => {
            let bytes = compile(program, &sources, settings.relaxed).map_err(ReloadError::Compile)?;
            let compiled = Compiled::from_bytes(&bytes).map_err(|error| ReloadError::Compile(error.to_string()))?;
            (compiled, bytes, true)
        }
    };
    if let Err(refusal) = rules::may_replace(now.map(|now| &*now.view), &compiled.view, force) {
        return Err(ReloadError::Refused { refusal, errors: compiled.view.errors });
    }
    if let Some(cache) = cache.filter(|_| is_new)
        && let Err(error) = cache.put(&key, &bytes)
    {
        tracing::warn!(%error, "compiled rules cannot be kept; they are compiled again at the next start");
    }
    let file = sealed(&bytes).map_err(|error| ReloadError::Compile(format!("no memory for the compiled rules: {error}")))?;
    let generation = now.map_or(1, |now| now.generation + 1);
    Ok(Loaded { view: Arc::new(compiled.view), generation, file })
}

/// What a compiled set depends on: texts, what was wrong with files, engine, setting.
fn key(sources: &Sources, relaxed: bool) -> String {
    let errors: Vec<String> = sources.errors.iter().map(ToString::to_string).collect();
    format!("{} {ENGINE} {relaxed} {}", sources.version, hex(&Sha256::digest(errors.join("\n"))))
}

fn compile(program: &Program, sources: &Sources, relaxed: bool) -> Result<Vec<u8>, String> {
    let words = |error: io::Error| error.to_string();
    let sources = serde_json::to_vec(sources).map_err(|error| error.to_string())?;
    let sources = sealed(&sources).map_err(words)?;
    let mut out = File::from(memory().map_err(words)?);
    let theirs = out.as_fd().try_clone_to_owned().map_err(words)?;
    let mut process = Process::start(program).map_err(|error| format!("no scan child can be started: {error}"))?;
    process.compile(relaxed, &sources, &theirs)?;
    drop(process);
    out.rewind().map_err(words)?;
    let mut bytes = Vec::new();
    out.take(RULE_COMPILED_BYTES + 1).read_to_end(&mut bytes).map_err(words)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > RULE_COMPILED_BYTES) {
        return Err(format!("they have more than {RULE_COMPILED_BYTES} bytes when compiled"));
    }
    Ok(bytes)
}

fn memory() -> io::Result<OwnedFd> {
    Ok(memfd_create("shipper-rules", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

/// A file in memory that nobody can change.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memory()?);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}
