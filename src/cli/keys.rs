//! `shipper keys`: makes keys for the HTTP face.

#![allow(clippy::disallowed_methods, reason = "a command works on the operator's real files")]

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use argh::FromArgs;

use crate::api::access::{
    Keys as KeysFile, Role, Who,
    keys::{Key, Proof, digest, hex, is_name, is_worker_id},
};

/// Make keys for the HTTP face.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "keys",
    example = "{command_name} new --name grafana --role viewer --into /etc/shipper/keys",
    example = "{command_name} new --name node-7 --role worker --worker node-7 --from 192.0.2.0/24"
)]
pub struct Keys {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum Command {
    New(New),
}

/// Make a key: it is printed once, on standard output; the line for the keys file, which does not hold it, goes to standard error.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "new")]
struct New {
    /// name of the key, in the audit: 1 to 64 of A-Z a-z 0-9 . _ -
    #[argh(option)]
    name: String,
    /// viewer, submitter, worker or admin; several with commas
    #[argh(option)]
    role: String,
    /// the only worker that may use it
    #[argh(option)]
    worker: Option<String>,
    /// a network from which it may come, as 192.0.2.0/24; may be given again
    #[argh(option)]
    from: Vec<String>,
    /// append the line to this keys file, which is made with mode 0600
    #[argh(option)]
    into: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// Wrong options, or a file that cannot be written; no key is printed then.
pub fn run(args: &Keys) -> anyhow::Result<ExitCode> {
    let Command::New(new) = &args.command;
    let mut secret = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut secret))
        .context("cannot read random bytes from /dev/urandom")?;
    let key = hex(&secret);
    let line = match line(new, &key) {
        Ok(line) => line,
        Err(what) => {
            eprintln!("shipper keys new: {what}");
            return Ok(ExitCode::from(super::USAGE));
        }
    };
    match &new.into {
        Some(path) => {
            append(path, &line)?;
            eprintln!("{}: {} added; reload the agent to let it in", path.display(), new.name);
        }
        None => eprintln!("{line}"),
    }
    println!("{key}");
    Ok(ExitCode::SUCCESS)
}

/// The line that stands for a key.
fn line(new: &New, key: &str) -> Result<String, String> {
    if !is_name(&new.name) {
        return Err("--name must be 1 to 64 of A-Z a-z 0-9 . _ -".into());
    }
    let roles: Option<Vec<Role>> = new.role.split(',').map(Role::of).collect();
    let roles = roles.ok_or("--role must be viewer, submitter, worker or admin, or several with commas")?;
    if let Some(worker) = &new.worker
        && (!is_worker_id(worker) || roles != [Role::Worker])
    {
        return Err("--worker must be 3 to 64 of A-Z a-z 0-9 _ -, and goes with --role worker alone".into());
    }
    let network = |text: &String| text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(Into::into));
    let networks: Result<Vec<_>, _> =
        new.from.iter().map(|text| network(text).map_err(|_| format!("--from {text:?} is no network; write 192.0.2.0/24"))).collect();
    let who = Who { name: new.name.clone(), roles, worker: new.worker.clone() };
    Ok(Key { who, proof: Proof::Key(digest(key.as_bytes())), networks: networks? }.line())
}

/// Adds a line to a keys file, which must be one afterwards.
fn append(path: &Path, line: &str) -> anyhow::Result<()> {
    let at = path.display();
    let mut text = if path.exists() {
        // What could not be read as keys is not added to.
        KeysFile::read(path).map_err(anyhow::Error::msg)?;
        std::fs::read_to_string(path).with_context(|| format!("cannot read {at}"))?
    } else {
        String::new()
    };
    let is_open = !text.is_empty() && !text.ends_with('\n');
    let added = format!("{}{line}\n", if is_open { "\n" } else { "" });
    text.push_str(&added);
    if let Err((line, what)) = KeysFile::parse(&text) {
        bail!("{at} line {line} would be wrong: {what}");
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).with_context(|| format!("cannot write {at}"))?;
    let mode = file.metadata().with_context(|| format!("cannot look at {at}"))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!("{at} has mode {mode:04o}, so that others may read or change it; `chmod 0600 {at}`");
    }
    file.write_all(added.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("cannot write {at}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn new(name: &str, role: &str, worker: Option<&str>, from: &[&str]) -> New {
        let from = from.iter().map(ToString::to_string).collect();
        New { name: name.into(), role: role.into(), worker: worker.map(Into::into), from, into: None }
    }

    #[test]
    fn a_line_is_read_back_and_holds_no_key() {
        let line = line(&new("node-7", "worker", Some("node-7"), &["192.0.2.0/24", "2001:db8::1"]), "sesame").unwrap();
        assert!(!line.contains("sesame"));
        let keys = KeysFile::parse(&line).unwrap();
        let proof = Proof::Key(digest(b"sesame"));
        assert_eq!(keys.find(&proof, "192.0.2.9".parse().ok()).unwrap().worker.as_deref(), Some("node-7"));
        assert_eq!(keys.find(&proof, "198.51.100.9".parse().ok()), None);
    }

    #[test]
    fn wrong_options_make_no_key() {
        let rows = [
            new("a b", "viewer", None, &[]),
            new("a", "root", None, &[]),
            new("a", "viewer", Some("node-7"), &[]),
            new("a", "worker", Some("x"), &[]),
            new("a", "viewer", None, &["everywhere"]),
        ];
        for row in rows {
            assert!(line(&row, "k").is_err(), "{row:?}");
        }
    }

    #[test]
    fn a_keys_file_grows_and_stays_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let add = |name: &str, key: &str| append(&path, &line(&new(name, "viewer", None, &[]), key).unwrap());
        add("a", "1").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().trim_end()).unwrap();
        add("b", "2").unwrap();
        assert!(add("b", "3").unwrap_err().to_string().contains("stands here twice"));
        let keys = KeysFile::read(&path).unwrap();
        assert!(keys.find(&Proof::Key(digest(b"1")), None).is_some() && keys.find(&Proof::Key(digest(b"2")), None).is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(add("c", "4").is_err());
    }
}
