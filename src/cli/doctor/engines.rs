//! How files can be read here: engines, io_uring, locked memory, O_DIRECT, inotify.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Finding, size};
use crate::{
    io::{self, Asked},
    limits,
    topology::{Engine, Globals},
};

/// - `folder`: one that will be read, for which O_DIRECT is tried.
pub(super) fn all(globals: &Globals, folder: &Path) -> Vec<Finding> {
    // Choosing raises the limit; what was given is what is told.
    let given = getrlimit(Resource::Memlock);
    let outcomes = [Asked::Auto, Asked::Uring, Asked::Pread].map(|asked| (asked, io::choose(asked)));
    let asked = match globals.engine {
        Engine::Auto => Asked::Auto,
        Engine::Uring => Asked::Uring,
        Engine::Pread => Asked::Pread,
    };
    let mut findings = vec![chosen(asked, &outcomes)];
    findings.extend(
        outcomes.iter().map(|(engine, outcome)| could_be(*engine, outcome.as_ref().map(|(_, why)| why.as_str()).map_err(String::as_str))),
    );
    let facts = io::facts(folder);
    let fact = |name: &str| facts.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str());
    findings.insert(0, Finding::good("kernel", fact("kernel")));
    findings.push(switch(fact("kernel.io_uring_disabled")));
    findings.push(memlock(given.maximum, globals.cores));
    findings.push(direct(fact("O_DIRECT")));
    findings.push(match fact("inotify") {
        "works" => Finding::good("inotify", "works"),
        trouble => Finding::warn(
            "inotify",
            format!("{trouble}: changes are seen once a second at the latest, not at once"),
            "raise fs.inotify.max_user_instances with sysctl",
        ),
    });
    for (name, least) in [("max_user_instances", 128), ("max_user_watches", 8192), ("max_queued_events", 1024)] {
        findings.push(inotify_limit(name, fact(name), least));
    }
    findings
}

type Outcome = Result<(io::Engine, String), String>;

/// The engine that the agent will use, by the config.
fn chosen(asked: Asked, outcomes: &[(Asked, Outcome)]) -> Finding {
    let of = |engine: Asked| outcomes.iter().find(|(found, _)| *found == engine).map(|(_, outcome)| outcome);
    match (of(asked), of(Asked::Uring)) {
        (Some(Ok((io::Engine::Pread, why))), Some(Err(refused))) if asked == Asked::Auto => {
            Finding::warn("engine", why.as_str(), refused.rsplit_once("; ").map_or(refused.as_str(), |(_, remedy)| remedy))
        }
        (Some(Ok((_, why))), _) => Finding::good("engine", why.as_str()),
        (Some(Err(refused)), _) => {
            let (what, remedy) = refused.rsplit_once("; ").unwrap_or((refused, "use --engine auto"));
            Finding::bad("engine", what, remedy)
        }
        (None, _) => Finding::good("engine", asked.to_string()),
    }
}

fn could_be(engine: Asked, outcome: Result<&str, &str>) -> Finding {
    let topic = format!("--engine {engine}");
    match outcome {
        Ok(why) => Finding::good(topic, why),
        // Not what the agent will use unless asked to, and then the line before says how bad it is.
        Err(refused) => {
            let (what, remedy) = refused.rsplit_once("; ").unwrap_or((refused, "use --engine auto"));
            Finding::warn(topic, what, remedy)
        }
    }
}

/// Linux, Documentation/admin-guide/sysctl/kernel.rst: 0 allows io_uring to all, 1 to
/// CAP_SYS_ADMIN and a group, 2 to nobody.
fn switch(value: &str) -> Finding {
    let topic = "kernel.io_uring_disabled";
    match value {
        "0" => Finding::good(topic, "0: io_uring is allowed"),
        "1" => Finding::warn(
            topic,
            "1: io_uring is allowed to privileged processes and one group only",
            "add the agent's user to the group of kernel.io_uring_group, or set kernel.io_uring_disabled=0",
        ),
        "2" => Finding::warn(topic, "2: io_uring is off", "set kernel.io_uring_disabled=0, or read with pread"),
        other => Finding::good(topic, other),
    }
}

fn memlock(maximum: Option<u64>, cores: usize) -> Finding {
    let topic = "memlock";
    // Each executor registers its buffers with each of its three rings.
    let want = (limits::COLD_PINNED_BYTES as u64) * 3 * cores as u64;
    match maximum {
        None => Finding::good(topic, "unlimited"),
        Some(bytes) if bytes >= want => Finding::good(topic, size(bytes)),
        Some(bytes) => Finding::warn(
            topic,
            format!("{} may be locked, and engine uring wants {} for {cores} cores", size(bytes), size(want)),
            "set LimitMEMLOCK=64M in the unit, or the container's memlock ulimit",
        ),
    }
}

fn direct(value: &str) -> Finding {
    match value {
        value if value.starts_with("works") => Finding::good("O_DIRECT", value),
        value if value.starts_with("cannot list") || value.starts_with("unknown") => {
            Finding::warn("O_DIRECT", value, "ask as the agent's user, once there is a file to read")
        }
        value => Finding::warn(
            "O_DIRECT",
            value,
            "long backlogs on such a file system are read through the page cache, which pushes other files out; another one avoids it",
        ),
    }
}

fn inotify_limit(name: &str, value: &str, least: u64) -> Finding {
    let topic = format!("fs.inotify.{name}");
    match value.parse::<u64>() {
        Ok(n) if n < least => Finding::warn(topic.clone(), n.to_string(), format!("set {topic}={least} or more with sysctl")),
        _ => Finding::good(topic, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::Level;

    fn refused() -> Outcome {
        Err("cannot use engine uring: io_uring_setup: EPERM; set kernel.io_uring_disabled=0, or use --engine auto".into())
    }

    #[test]
    fn a_refused_io_uring_is_as_bad_as_it_was_asked_for() {
        let works: Outcome = Ok((io::Engine::Uring, "engine uring: io_uring works".into()));
        let falls: Outcome = Ok((io::Engine::Pread, "engine pread: io_uring_setup: EPERM".into()));
        let pread: Outcome = Ok((io::Engine::Pread, "engine pread: asked for".into()));
        let here =
            |auto: &Outcome, uring: &Outcome| [(Asked::Auto, auto.clone()), (Asked::Uring, uring.clone()), (Asked::Pread, pread.clone())];
        let (allowed, forbidden) = (here(&works, &works), here(&falls, &refused()));
        for (asked, outcomes, level) in [
            (Asked::Auto, &allowed, Level::Good),
            (Asked::Uring, &allowed, Level::Good),
            (Asked::Auto, &forbidden, Level::Warning),
            (Asked::Uring, &forbidden, Level::Bad),
            (Asked::Pread, &forbidden, Level::Good),
        ] {
            assert_eq!(chosen(asked, outcomes).level, level, "{asked}");
        }
        let told = chosen(Asked::Uring, &forbidden);
        assert_eq!(told.what, "cannot use engine uring: io_uring_setup: EPERM");
        assert_eq!(told.remedy.unwrap(), "set kernel.io_uring_disabled=0, or use --engine auto");
    }

    #[test]
    fn limits_are_judged_by_what_the_agent_takes() {
        assert_eq!(memlock(None, 4).level, Level::Good);
        assert_eq!(memlock(Some(64 << 20), 4).level, Level::Good);
        assert_eq!(memlock(Some(8 << 20), 4).level, Level::Warning);
        assert_eq!(
            inotify_limit("max_user_watches", "64", 8192).remedy.unwrap(),
            "set fs.inotify.max_user_watches=8192 or more with sysctl"
        );
        assert_eq!(inotify_limit("max_user_watches", "not known to this kernel", 8192).level, Level::Good);
        assert_eq!([switch("0").level, switch("1").level, switch("2").level], [Level::Good, Level::Warning, Level::Warning]);
        assert_eq!([direct("works (/)").level, direct("refused for /a: EINVAL (/)").level], [Level::Good, Level::Warning]);
    }
}
