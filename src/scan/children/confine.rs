//! What a scan child gives up before it reads its first byte: files by name, networks, programs, other processes, memory without end.
//!
//! It keeps the descriptors that it is sent, memory, threads and machine code made at run time, which the engine needs.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use seccompiler::TargetArch;
use serde_json::json;

use crate::limits::{CHILD_MEMORY_BYTES, RULE_COMPILED_BYTES};

/// System calls that fail from now on (EPERM), on every architecture.
const REFUSED: &[&str] = &[
    "accept",
    "accept4",
    "bind",
    "connect",
    "listen",
    "socket",
    "socketpair", // networks
    "openat",
    "openat2",
    "open_by_handle_at",
    "name_to_handle_at",
    "truncate", // files by name
    "linkat",
    "mkdirat",
    "mknodat",
    "renameat2",
    "symlinkat",
    "unlinkat",
    "fchmodat",
    "fchownat",
    "utimensat",
    "chdir",
    "chroot",
    "pivot_root",
    "mount",
    "umount2",
    "unshare",
    "setns", // other views of them
    "execve",
    "execveat", // programs
    "kill",
    "pidfd_open",
    "pidfd_send_signal",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace", // processes
    "add_key",
    "bpf",
    "io_uring_setup",
    "kexec_load",
    "keyctl",
    "memfd_create",
    "perf_event_open",
    "request_key",
    "userfaultfd",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setuid",
];

/// The same under the names that only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[&str] = &[
    "chmod", "chown", "creat", "fork", "lchown", "link", "mkdir", "mknod", "open", "rename", "renameat", "rmdir", "symlink", "unlink",
    "vfork",
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[&str] = &[];

/// Confines this process, for ever. Gives what could not be done, in words.
pub(super) fn confine() -> Vec<String> {
    let mut undone = Vec::new();
    let mut done = |what: &str, result: Result<(), String>| undone.extend(result.err().map(|error| format!("{what}: {error}")));
    // The agent's end is the child's end, also while it is busy.
    done("death with the agent", set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string()));
    for (resource, bytes) in [
        (Resource::As, reserved().saturating_add(CHILD_MEMORY_BYTES)),
        (Resource::Core, 0),
        (Resource::Fsize, RULE_COMPILED_BYTES),
        (Resource::Nofile, 64),
    ] {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        done("limits", setrlimit(resource, limit).map_err(|error| error.to_string()));
    }
    done("system calls", refuse_calls());
    undone
}

/// Bytes of address space that this process has.
#[allow(clippy::disallowed_methods, reason = "a child asks about itself, before it may open nothing more")]
fn reserved() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    size.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

fn refuse_calls() -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let calls: Vec<_> = REFUSED.iter().chain(REFUSED_HERE).map(|name| json!({"syscall": name})).collect();
    let rules = json!({"child": {"mismatch_action": "allow", "match_action": {"errno": 1}, "filter": calls}});
    let programs = seccompiler::compile_from_json(rules.to_string().as_bytes(), arch).map_err(|error| error.to_string())?;
    let program: BTreeMap<_, _> = programs.into_iter().collect();
    // Takes the right to new privileges away as well.
    program.get("child").map_or(Ok(()), |program| seccompiler::apply_filter(program)).map_err(|error| error.to_string())
}
