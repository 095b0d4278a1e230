//! The agent's own synchronisation: again and again, on a thread of its own, told on the board.

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use super::{
    settings::Settings,
    sync::{Place, SyncError, Synced, sync},
};
use crate::{
    io::{Executor, disk::RealDisk},
    metrics::{Standing, State},
};

/// Keeps the tables what MISP has.
pub(super) struct Periodic {
    settings: Settings,
    state_dir: PathBuf,
    every: Duration,
    standing: Standing,
}

impl Periodic {
    /// - `standing`: its own, beside that of the lookup.
    pub fn new(settings: Settings, state_dir: PathBuf, every: Duration, standing: Standing) -> Self {
        Self { settings, state_dir, every, standing }
    }

    /// Begins at once and goes on until the thread ends. Whoever reads the tables sees by their
    /// files that they are others.
    pub async fn go_on(self, on: std::rc::Rc<dyn Executor>) {
        loop {
            let now = on.clock().now() / 1_000_000_000;
            match self.once(now).await {
                Ok(synced) => {
                    let Synced { whole, rows, put, gone, status, .. } = synced;
                    match whole {
                        Some(why) => tracing::info!(why, rows, indicators = status.indicators, "the indicators were fetched from MISP"),
                        None if put + gone > 0 => tracing::info!(rows, put, gone, "changes of indicators were fetched from MISP"),
                        None => tracing::debug!(rows, "no indicator has changed in MISP"),
                    }
                    self.standing.set(State::Ready);
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    let why = format!("{error}{cause}; the indicators stay as they are");
                    self.standing.set(match error {
                        SyncError::Denied(_) => State::Holding(why),
                        _ => State::Retrying(why),
                    });
                }
            }
            on.sleep(self.every).await;
        }
    }

    async fn once(&self, now: u64) -> Result<Synced, SyncError> {
        let (send, receive) = oneshot::channel();
        let settings = self.settings.clone();
        let place = Place { disk: Arc::new(RealDisk::new()), state_dir: self.state_dir.clone(), own: |_| Box::new(|_| Ok(())) };
        let body = move || {
            // Nobody waits any more when the agent ends.
            let _ = send.send(sync(&settings, &place, false, settings.rebuild_every, now, &mut |_| ()));
        };
        thread::Builder::new().name("misp-sync".into()).spawn(body).map_err(SyncError::Start)?;
        receive.await.unwrap_or_else(|_| Err(SyncError::Denied("the synchronisation ended half-way; this is a defect of shipper".into())))
    }
}
