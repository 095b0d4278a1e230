//! What is done by the clock: new rules, workers that fell silent, the monitor, cleanup.

use std::{rc::Rc, sync::Arc, time::Duration};

use super::{children::ERRORS_TOLD, give::plain, start::Shared};
use crate::{
    clock::{Clock, Nanos},
    io::{Gauge, Io},
    scan::{
        monitor::{Change, Figures as Seen, Host, Moment},
        workers::Status,
    },
};

const SECOND: Nanos = 1_000_000_000;

/// What the names of the metrics mean by a megabyte and a gigabyte.
const MIB: f64 = (1u64 << 20) as f64;
const GIB: f64 = (1u64 << 30) as f64;

/// Runs until the thread ends.
pub(super) async fn run(shared: Arc<Shared>, io: Rc<dyn Io>) {
    let monitor = shared.plan.monitor.clone();
    let every = |seconds: u64| seconds.saturating_mul(SECOND);
    let now = io.clock().mono();
    let (mut collect_at, mut check_at) = (now, now + every(monitor.check_s));
    let reload = shared.plan.settings.rules.reload_s;
    let mut reload_at = if reload == 0 { Nanos::MAX } else { now + every(reload) };
    let cleanup = &shared.plan.settings.cleanup;
    let clean_every = if cleanup.enabled { every(cleanup.interval_minutes * 60) } else { Nanos::MAX };
    let mut clean_at = now.saturating_add(clean_every);
    let mut gauge = Gauge::default();
    loop {
        let mono = io.clock().mono();
        let moment = Moment { wall: io.clock().now(), mono };
        if mono >= reload_at {
            reload_at = mono + every(reload);
            // Compiling takes seconds, and workers may fall silent meanwhile.
            let of = shared.clone();
            shared.later(Box::pin(async move { rules(&of).await }));
        }
        let fallen = shared.registry().fallen(io.clock());
        for worker in fallen {
            match shared.tasks.lost(&worker).await {
                Ok(files) => tracing::warn!(worker, files, "a worker is offline, what it had is given to others"),
                Err(away) => tracing::warn!(worker, "a worker is offline, and what it had comes back when its leases end: {away}"),
            }
        }
        if mono >= collect_at {
            collect_at = mono + every(monitor.collect_s);
            shared.stand();
            let (seen, host) = (seen(&shared, io.clock()), host(&shared, &mut gauge));
            if shared.related.has_logs() {
                let named = shared.related.refresh(mono).await;
                if let Some(watching) = &*shared.watching() {
                    named.iter().for_each(|name| watching.named(name));
                }
            }
            shared.monitor().collect(&seen, &host, moment);
        }
        if mono >= check_at {
            check_at = mono + every(monitor.check_s);
            let changes = shared.monitor().check(moment);
            tell(&shared, &changes, moment.wall);
        }
        if mono >= clean_at {
            clean_at = mono.saturating_add(clean_every);
            let round = shared.cleaning.round(false);
            shared.later(Box::pin(async move {
                match round.await {
                    Ok(report) if report.removed > 0 => {
                        tracing::info!(files = report.removed, quarantined = report.quarantined, "scanned files were removed")
                    }
                    Ok(_) => {}
                    Err(why) => tracing::warn!("scanned files are not removed: {}", plain(&why)),
                }
            }));
        }
        let falls_at = shared.registry().next_fall().unwrap_or(Nanos::MAX);
        let due = [reload_at, collect_at, check_at, clean_at, falls_at].into_iter().min().unwrap_or(Nanos::MAX);
        let left = due.saturating_sub(io.clock().mono());
        tokio::select! {
            biased;
            () = io.sleep(Duration::from_nanos(left)) => {}
            // A worker has registered, and may fall silent.
            () = shared.looks.wait() => {}
        }
    }
}

/// Takes rules whose files have changed.
async fn rules(shared: &Shared) {
    match shared.scanner.reload(None).await {
        Ok(None) => {}
        Ok(Some(view)) => {
            tracing::info!(version = view.version, rules = view.rules.len(), errors = view.errors.len(), "the rules are taken anew");
            shared.turn.raise();
            shared.stand();
        }
        Err((why, errors)) => {
            tracing::error!("the rules in use stay: {why}");
            errors.iter().take(ERRORS_TOLD).for_each(|error| tracing::error!("{error}"));
        }
    }
}

/// Queue and workers now. This host's own children are a worker as well, and always well.
fn seen(shared: &Shared, clock: &dyn Clock) -> Seen {
    let figures = shared.tasks.figures();
    let counts = shared.registry().counts(clock);
    let of = |status| counts.get(&status).copied().unwrap_or(0) as u64;
    let own = u64::from(shared.scanner.children().0 > 0);
    Seen {
        queued: figures.queued,
        oldest_age_s: figures.oldest_waiting.map_or(0.0, |since| clock.now().saturating_sub(since) as f64 / 1e9),
        dead: figures.dead,
        workers: own + counts.values().map(|count| *count as u64).sum::<u64>(),
        workers_healthy: own + of(Status::Healthy),
        workers_offline: of(Status::Offline),
    }
}

/// The host now: of disks, the fullest of the roots and the state folder.
fn host(shared: &Shared, gauge: &mut Gauge) -> Host {
    let roots = shared.plan.settings.roots.iter().map(|root| root.path.as_path());
    let disks = roots.chain([shared.state_dir.as_path()]).filter_map(|path| {
        let stat = rustix::fs::statvfs(path).ok()?;
        let all = (stat.f_blocks as f64).max(1.0);
        Some(((1.0 - stat.f_bavail as f64 / all) * 100.0, stat.f_bavail as f64 * stat.f_frsize as f64 / GIB))
    });
    let fullest = disks.max_by(|a, b| a.0.total_cmp(&b.0));
    let load = gauge.look();
    Host {
        cpu_percent: load.cpu_percent,
        memory_percent: load.memory_percent,
        memory_available_mb: load.memory_available_bytes.map(|bytes| bytes as f64 / MIB),
        disk_percent: fullest.map(|disk| disk.0),
        disk_free_gb: fullest.map(|disk| disk.1),
        network_sent: load.sent_bytes,
        network_received: load.received_bytes,
    }
}

/// Sends on what the monitor found, and has it kept. Nobody waits for that: a disk that is full is what an alert may be about.
pub(super) fn tell(shared: &Shared, changes: &[Change], wall: Nanos) {
    for change in changes {
        let kept = shared.feed.found(change, wall / 1_000_000);
        shared.later(Box::pin(async move {
            if let Err(away) = kept.await {
                tracing::warn!("an alert of the monitor could not be kept, a restart will not know of it: {away}");
            }
        }));
    }
}
