//! Keeps the tables of a plan filled: at the start, before a reload, and whenever their files are
//! others than they were.
//!
//! Once a second the edge asks for size and time of the few files that say so; what is to be read
//! is read on a thread of its own, since the edge must not wait for megabytes. A table that cannot
//! be read leaves the one before in its place, is told on the board with the remedy, and is tried
//! again when its files change, and now and then.

use std::{path::Path, rc::Rc, sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use super::Plan;
use crate::{
    clock::{Nanos, nanos},
    io::{Io, disk::RealDisk},
    limits,
    metrics::{Board, Standing, State},
    reference::Trouble,
};

/// What a file is told apart by: device, inode, size, seconds and nanoseconds of its last change;
/// `None` while it is not there.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let stat = rustix::fs::stat(path).ok()?;
    #[allow(clippy::unnecessary_cast, reason = "their widths differ between architectures")]
    Some((stat.st_dev as u64, stat.st_ino as u64, stat.st_size as i64, stat.st_mtime as i64, stat.st_mtime_nsec as u64))
}

fn stamps(plan: &Plan, table: usize) -> Vec<Stamp> {
    let Some(table) = plan.tables.get(table) else { return Vec::new() };
    table.spec.files(&RealDisk::new(), &plan.globals.state_dir).iter().map(|path| stamp(path)).collect()
}

fn load(plan: &Plan, table: usize) -> Result<String, Trouble> {
    let Some(table) = plan.tables.get(table) else { return Ok(String::new()) };
    table.spec.load(&table.name, &plan.shelf, &RealDisk::new(), &plan.globals.state_dir)
}

/// Fills the tables that are empty, for who runs no agent; returns what cannot be read.
pub fn fill(plan: &Plan) -> Vec<String> {
    let empty = (0..plan.tables.len()).filter(|n| plan.tables.get(*n).is_some_and(|table| !plan.shelf.is_filled(&table.name)));
    let troubles = empty.filter_map(|n| Some(format!("tables.{}: {}", plan.tables.get(n)?.name, load(plan, n).err()?)));
    troubles.collect()
}

/// Fills the tables of a plan that takes the place of another while that one still runs. Whatever
/// cannot be read goes on as it is there.
pub fn fill_after(plan: &mut Plan, before: &Plan) {
    for n in 0..plan.tables.len() {
        let Err(trouble) = load(plan, n) else { continue };
        let Some(table) = plan.tables.get(n) else { continue };
        if matches!(trouble, Trouble::Partly(_)) {
            // It is in use; the keeper tells of it at its first look.
            continue;
        }
        if before.tables.iter().any(|b| (&b.name, b.kind) == (&table.name, table.kind)) && plan.shelf.adopt(&table.name, &before.shelf) {
            tracing::warn!(table = table.name, %trouble, "the table is not read anew; the one in use stays");
        }
    }
}

/// One table that is kept.
struct Kept {
    standing: Standing,
    seen: Vec<Stamp>,
    /// Monotonic; not looked at before.
    next_look: Nanos,
    /// Monotonic; read again then, whatever its files say. Only while something is wrong.
    retry: Option<Nanos>,
}

/// Looks after the tables of a running agent.
pub struct Keeper {
    plan: Arc<Plan>,
    tables: Vec<Kept>,
}

impl Keeper {
    /// Fills what is empty; `None` if the plan has no table.
    pub fn start(plan: &Arc<Plan>, board: &Board) -> Option<Self> {
        if plan.tables.is_empty() {
            return None;
        }
        let mut keeper = Self { plan: plan.clone(), tables: Vec::new() };
        for (n, table) in plan.tables.iter().enumerate() {
            let standing = board.enter(format!("tables.{}", table.name));
            let mut kept = Kept { standing, seen: Vec::new(), next_look: 0, retry: None };
            if plan.shelf.is_filled(&table.name) {
                // Read for a reload; nothing was seen, so it is read again at the first look.
                kept.standing.set(State::Ready);
            } else {
                // Before the read, so that a change meanwhile is seen.
                kept.seen = stamps(plan, n);
                kept.tell(&table.name, load(plan, n), false, 0);
            }
            keeper.tables.push(kept);
        }
        Some(keeper)
    }

    /// Goes on until the thread ends.
    pub async fn keep(mut self, io: Rc<dyn Io>) {
        loop {
            io.sleep(Duration::from_millis(limits::TABLES_LOOK_EVERY_MS)).await;
            for n in 0..self.tables.len() {
                self.look(n, &io).await;
            }
        }
    }

    async fn look(&mut self, n: usize, io: &Rc<dyn Io>) {
        let now = io.clock().mono();
        let (Some(kept), Some(table)) = (self.tables.get_mut(n), self.plan.tables.get(n)) else { return };
        if now < kept.next_look {
            return;
        }
        kept.next_look = now.saturating_add(nanos(table.spec.look_every()));
        table.spec.tend(&table.name, &self.plan.shelf, &kept.standing, io.clock().now());
        let seen = stamps(&self.plan, n);
        if seen == kept.seen && kept.retry.is_none_or(|at| now < at) {
            return;
        }
        let was_filled = self.plan.shelf.is_filled(&table.name);
        let (send, receive) = oneshot::channel();
        let plan = self.plan.clone();
        let read = move || {
            // Nobody waits any more when the agent ends.
            let _ = send.send(load(&plan, n));
        };
        let loaded = match thread::Builder::new().name("tables".into()).spawn(read) {
            Ok(_) => {
                receive.await.unwrap_or_else(|_| Err(Trouble::Broken("the thread that reads it ended; this is a defect of shipper".into())))
            }
            Err(error) => Err(Trouble::Broken(format!("cannot start a thread to read it: {error}; raise the limit of threads"))),
        };
        kept.seen = seen;
        kept.tell(&table.name, loaded, was_filled, io.clock().mono());
    }
}

impl Kept {
    /// Tells what a read gave.
    ///
    /// - `was_filled`: an earlier table stays in use.
    fn tell(&mut self, name: &str, loaded: Result<String, Trouble>, was_filled: bool, now: Nanos) {
        match loaded {
            Ok(what) => {
                tracing::info!(table = name, "{what}");
                self.standing.set(State::Ready);
                self.retry = None;
            }
            Err(trouble) => {
                let why = trouble.to_string();
                self.standing.set(match was_filled {
                    _ if matches!(trouble, Trouble::Partly(_)) => State::Retrying(why),
                    true => State::Retrying(format!("{why}; the one read before stays in use")),
                    false => State::Holding(why),
                });
                self.retry = Some(now.saturating_add(nanos(Duration::from_millis(limits::HOLD_RETRY_MS))));
            }
        }
    }
}
