//! Following one name: a file as it grows, through rotation, truncation and restarts.
//!
//! The name may be a hard link that is swapped (Wazuh), a file that is renamed away, or one that
//! is copied and cut. ENOENT is a state, not an error. A finished file is read to its end before
//! the next one is begun, and a part line at its end is a lost tail, never joined to the next.
//!
//! Refuses to know what a frame means. Start at [`Follow::run`].

use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use super::steady::Steady;
use crate::{
    checkpoint::{Row, Rung, SegmentRow, rung_crc},
    clock::Nanos,
    framing::{Framing, Objects, last_boundary, whole_frames},
    io::{File, Io, Slab, Stat},
    limits,
    metrics::{Standing, State},
    position::Position,
    sources::{Admit, At, Chunk, ChunkKind},
};

/// Finished files of the same stream, beside the name.
pub trait Siblings {
    /// Their segments and paths, in order.
    ///
    /// # Errors
    /// What kept it from looking: a file that is not seen is not one that is gone.
    fn files(&self, io: &dyn Io) -> io::Result<Vec<(u32, PathBuf)>>;
    /// The segment of a file that has no dated name.
    fn unnamed(&self, io: &dyn Io) -> u32;
    /// Text of the origin before the offset.
    fn origin(&self, segment: u32, incarnation: u16) -> Arc<str>;
}

/// Where a first start begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// Behind the last whole line that is there; a file that appears later is read from 0.
    End,
    /// At 0.
    Beginning,
}

/// One name being followed.
pub struct Follow {
    pub(super) io: Rc<dyn Io>,
    pub(super) admit: Rc<dyn Admit>,
    pub(super) standing: Standing,
    /// The name; of several files it may change.
    pub(super) path: PathBuf,
    pub(super) stream: String,
    pub(super) siblings: Box<dyn Siblings>,
    pub(super) start_at: StartAt,
    pub(super) framing: Framing,
    /// What the checkpoint held at the start.
    pub(super) saved: Option<Row>,
}

/// The file that is being read.
pub(super) struct Open {
    pub(super) file: Rc<dyn File>,
    pub(super) stat: Stat,
    /// As it was after the last read.
    pub(super) now: Stat,
    /// When it was last compared with what the name is, monotonic nanoseconds.
    pub(super) named: Nanos,
    pub(super) path: PathBuf,
    /// Its number in positions; grows with each file.
    pub(super) segment: u32,
    /// Its dated number, where it is known.
    pub(super) dated: Option<u32>,
    pub(super) incarnation: u16,
    /// Of the next byte to be read, the part line included.
    pub(super) offset: u64,
    /// Part frame, read and not yet whole; it ends at `offset`.
    pub(super) part: Vec<u8>,
    /// What was seen of the part, where frames are objects.
    pub(super) objects: Objects,
    /// The last bytes before the part line, for rungs and for the look back.
    pub(super) window: Vec<u8>,
    /// Proofs of an earlier life that still hold below `offset`.
    pub(super) rungs: Vec<Rung>,
    pub(super) head: (u32, u32),
    pub(super) origin: Arc<str>,
}

/// What is to be opened when nothing is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// What the name is.
    Named,
    /// The first file that is not yet known; `None`: there was none.
    NewerThan(Option<u32>),
    /// The first file behind the one that was read.
    Behind(u32),
}

/// Why a file is not read on.
pub(super) enum ReadError {
    /// What lies before the place is not what was read there.
    Restarted,
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// What a look at the end of the file found.
pub(super) enum Look {
    /// It may grow.
    Wait,
    /// The name is away.
    Away,
    /// It was cut or written over.
    Restarted,
    /// The name is another file now.
    Rotated,
}

impl Follow {
    /// Follows `path` as stream `stream`.
    pub fn new(
        io: Rc<dyn Io>,
        admit: Rc<dyn Admit>,
        standing: Standing,
        path: PathBuf,
        stream: String,
        siblings: Box<dyn Siblings>,
        start_at: StartAt,
    ) -> Self {
        let saved = admit.resume(&stream);
        Self { io, admit, standing, path, stream, siblings, start_at, framing: Framing::Lines, saved }
    }

    /// Cuts by other rules than line by line.
    pub fn with(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    /// Runs until the admission is closed.
    pub async fn run(self) {
        let watch = self.io.watch(&self.path);
        let (mut current, mut next) = loop {
            let found = match &self.saved {
                Some(row) => self.resume(row).await,
                None => self.begin().await,
            };
            match found {
                Ok(found) => break found,
                Err(e) => self.standing.set(State::Retrying(self.not_open(&e))),
            }
            self.wait(&*watch).await;
            if self.admit.is_closed() {
                return;
            }
        };
        let (mut announced, mut steady) = (false, Steady::new(self.admit.gathers()));
        if let Some(open) = &current {
            self.announce(open).await;
            announced = true;
        } else {
            tracing::info!(path = %self.path.display(), "file is not there yet; waiting for it");
        }
        while !self.admit.is_closed() {
            let Some(open) = &mut current else {
                match self.open_next(next).await {
                    Ok(open) => {
                        if announced {
                            self.describe(&open);
                        } else {
                            self.announce(&open).await;
                            announced = true;
                        }
                        next = Next::Named;
                        current = Some(open);
                        continue;
                    }
                    Err(e) => self.standing.set(State::Retrying(self.not_open(&e))),
                }
                self.wait(&*watch).await;
                continue;
            };
            self.standing.set(State::Ready);
            let before = open.offset;
            let look = match self.read_to_end(open).await {
                Ok(()) if self.admit.is_closed() => break,
                Ok(()) if open.offset > before && !self.is_name_due(open) => self.look_inside(open).await.unwrap_or(Look::Wait),
                Ok(()) => self.look(open).await,
                Err(ReadError::Restarted) => Look::Restarted,
                Err(ReadError::Io(e)) => {
                    self.standing
                        .set(State::Retrying(format!("cannot read {}: {e}; check its disk and its permissions", open.path.display())));
                    Look::Wait
                }
            };
            match look {
                Look::Wait | Look::Away => match steady.looked(open.offset.saturating_sub(before), self.io.clock().mono()) {
                    Some(rest) => tokio::select! {
                        biased;
                        () = self.admit.closed() => {}
                        () = watch.rest(rest) => {}
                    },
                    None => self.wait(&*watch).await,
                },
                Look::Restarted => self.restart(open).await,
                Look::Rotated => {
                    match self.rotate(open).await {
                        Some(next) => current = Some(next),
                        // The next file is there and cannot be opened, or was gone again: look later.
                        None => self.wait(&*watch).await,
                    }
                }
            }
        }
    }

    /// The file was cut or written over: a new life of it begins at its start.
    pub(super) async fn restart(&self, open: &mut Open) {
        self.lose_part(open).await;
        tracing::warn!(path = %open.path.display(), read_to = open.offset, "file was cut or written over; reading it from its start");
        open.incarnation = open.incarnation.saturating_add(1);
        open.offset = 0;
        open.window.clear();
        open.rungs.clear();
        open.origin = self.siblings.origin(open.segment, open.incarnation);
        if let Ok(now) = open.file.stat() {
            open.stat.modified = now.modified;
        }
        // A head that cannot be read now is read with the first bytes.
        open.head = self.head(&*open.file).await.unwrap_or_default();
        self.describe(open);
        // A restart must not give its addresses to what is there by then.
        self.admit.saved().await;
    }

    async fn wait(&self, watch: &dyn crate::io::Watch) {
        tokio::select! {
            biased;
            () = self.admit.closed() => {}
            () = watch.changed(Duration::from_millis(limits::SAFETY_POLL_MS)) => {}
        }
    }

    /// The first start of all.
    pub(super) async fn begin(&self) -> io::Result<(Option<Open>, Next)> {
        match self.open(&self.path, None).await {
            Ok(open) => Ok((Some(self.begin_in(open).await?), Next::Named)),
            // What appears later is new from its first file on, however often it is swapped first.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Ok((None, Next::NewerThan(self.siblings.files(&*self.io)?.last().map(|(segment, _)| *segment))))
            }
            Err(e) => Err(e),
        }
    }

    /// Goes to where a first start begins.
    pub(super) async fn begin_in(&self, mut open: Open) -> io::Result<Open> {
        if self.start_at == StartAt::End {
            let size = open.file.stat()?.size;
            open.offset = match self.framing {
                Framing::Lines => self.last_line_end(&*open.file, size).await?,
                Framing::Objects => self.last_object_end(&*open.file, size).await?,
            };
            open.window = self.before(&*open.file, open.offset).await?;
        }
        Ok(open)
    }

    /// Makes the stream known; its start is saved before its first bytes, so that a first run that
    /// is killed does not begin elsewhere the next time.
    async fn announce(&self, open: &Open) {
        self.make_known(open);
        self.admit.saved().await;
    }

    /// Makes the stream known; whoever calls it waits for the save.
    pub(super) fn make_known(&self, open: &Open) {
        self.admit.open(&self.stream, position(open));
        self.describe(open);
    }

    fn describe(&self, open: &Open) {
        self.admit.segment(&self.stream, row_of(open, self.io.boot()));
    }

    /// Opens `path`; its segment is its dated name's, or the one after `last`.
    pub(super) async fn open(&self, path: &Path, last: Option<u32>) -> io::Result<Open> {
        let file = self.io.open(path)?;
        let stat = file.stat()?;
        if !stat.is_file {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} is no regular file; name the file itself", path.display()),
            ));
        }
        let dated = self.dated(&stat)?;
        let segment = match (dated, last) {
            (Some(dated), Some(last)) => dated.max(last + 1),
            (Some(dated), None) => dated,
            (None, Some(last)) => last + 1,
            (None, None) => self.siblings.unnamed(&*self.io),
        };
        let head = self.head(&*file).await?;
        let incarnation = self.life_of(segment, &*file, &stat, head).await?;
        let origin = self.siblings.origin(segment, incarnation);
        let path = path.to_owned();
        let (part, window, rungs) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Open {
            file,
            stat,
            now: stat,
            named: 0,
            path,
            segment,
            dated,
            incarnation,
            offset: 0,
            part,
            objects: Objects::default(),
            window,
            rungs,
            head,
            origin,
        })
    }

    pub(super) fn dated(&self, stat: &Stat) -> io::Result<Option<u32>> {
        for (segment, path) in self.siblings.files(&*self.io)?.into_iter().rev() {
            match self.io.stat(&path) {
                Ok(found) if same(&found, stat) => return Ok(Some(segment)),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(None)
    }

    pub(super) async fn head(&self, file: &dyn File) -> io::Result<(u32, u32)> {
        let bytes = self.bytes(file, 0, limits::FINGERPRINT_BYTES).await?;
        Ok((u32::try_from(bytes.len()).unwrap_or(u32::MAX), crc32c::crc32c(&bytes)))
    }

    /// So many bytes, fewer only where the file ends.
    pub(super) async fn bytes(&self, file: &dyn File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let (slab, read) = file.read_at(offset + bytes.len() as u64, len - bytes.len(), false, self.io.slabs().take(len)).await;
            if read? == 0 {
                break;
            }
            bytes.extend_from_slice(&slab.bytes);
        }
        Ok(bytes)
    }

    /// What lies before an offset, as far as a rung or a look back needs it.
    pub(super) async fn before(&self, file: &dyn File, offset: u64) -> io::Result<Vec<u8>> {
        let start = offset.saturating_sub(limits::RUNG_BYTES as u64);
        self.bytes(file, start, usize::try_from(offset - start).unwrap_or(0)).await
    }

    async fn last_line_end(&self, file: &dyn File, size: u64) -> io::Result<u64> {
        let mut end = size;
        while end > 0 {
            let start = end.saturating_sub(limits::SLAB_BYTES as u64);
            let bytes = self.bytes(file, start, usize::try_from(end - start).unwrap_or(0)).await?;
            match whole_frames(&bytes) {
                0 if size - start >= limits::FRAME_BYTES_MAX as u64 => return Ok(size),
                0 => end = start,
                whole => return Ok(start + whole as u64),
            }
        }
        Ok(0)
    }

    /// Where the last object begins or ends, as far as lines tell; the end of the file if none is near.
    async fn last_object_end(&self, file: &dyn File, size: u64) -> io::Result<u64> {
        let mut len = limits::SLAB_BYTES as u64;
        loop {
            let start = size.saturating_sub(len);
            let bytes = self.bytes(file, start, usize::try_from(size - start).unwrap_or(0)).await?;
            match last_boundary(&bytes, start == 0) {
                Some(at) => return Ok(start + at as u64),
                None if start == 0 => return Ok(0),
                None if len >= limits::FRAME_BYTES_MAX as u64 => return Ok(size),
                None => len *= 4,
            }
        }
    }

    /// Reads what is there now, whole frames only.
    async fn read_to_end(&self, open: &mut Open) -> Result<(), ReadError> {
        self.read_some(open, u64::MAX).await.map(|_| ())
    }

    /// Reads what is there now, and about `most` bytes of it; true if the end was reached.
    pub(super) async fn read_some(&self, open: &mut Open, most: u64) -> Result<bool, ReadError> {
        let from = open.offset;
        open.now = open.file.stat()?;
        loop {
            if self.admit.is_closed() {
                return Ok(true);
            }
            if open.offset - from >= most {
                return Ok(false);
            }
            let behind = open.now.size.saturating_sub(open.offset);
            self.admit.lag(behind);
            if behind == 0 {
                return Ok(true);
            }
            let room = limits::SLAB_BYTES.max(open.part.len() * 2);
            let mut slab = self.io.slabs().take(room);
            slab.bytes.extend_from_slice(&open.part);
            // What has come since is read at the next turn.
            let want = (room - open.part.len()).min(usize::try_from(behind).unwrap_or(usize::MAX));
            let (slab, read) = open.file.read_at(open.offset, want, behind > limits::COLD_BACKLOG_BYTES, slab).await;
            let n = read?;
            // Looked at after the read: whatever was read is of the life that is proven here.
            open.now = open.file.stat()?;
            if n == 0 {
                return Ok(true);
            }
            self.prove(open).await?;
            open.offset += n as u64;
            if self.cut(open, slab).await {
                // As long as a sink was away.
                open.now = open.file.stat()?;
            }
            if open.now.size > open.offset {
                // A backlog that nobody wants takes no credits and would never wait: stop signals,
                // answers and timers are heard between two slabs.
                self.io.pause().await;
            }
            if u64::from(open.head.0) < (limits::FINGERPRINT_BYTES as u64).min(open.offset) {
                open.head = self.head(&*open.file).await?;
                self.describe(open);
            }
        }
    }

    /// Hands the whole frames of `slab` in and keeps the part line; true if that waited for credits.
    async fn cut(&self, open: &mut Open, mut slab: Slab) -> bool {
        let (whole, kind) = match self.framing {
            Framing::Lines => (whole_frames(&slab.bytes), ChunkKind::Lines),
            Framing::Objects => {
                if open.objects.seen() != open.part.len() {
                    // The part was given up: lost with its file, or too long.
                    open.objects = Objects::default();
                }
                (open.objects.whole(&slab.bytes), ChunkKind::Objects)
            }
        };
        open.part.clear();
        if whole == 0 && slab.bytes.len() >= limits::FRAME_BYTES_MAX {
            let start = open.offset - slab.bytes.len() as u64;
            return self.hand_in(open, slab, start, ChunkKind::Broken("too_long")).await;
        }
        open.part.extend_from_slice(slab.bytes.get(whole..).unwrap_or_default());
        if whole == 0 {
            return false;
        }
        let start = open.offset - slab.bytes.len() as u64;
        slab.bytes.truncate(whole);
        self.hand_in(open, slab, start, kind).await
    }

    /// Hands bytes in; true if that waited for credits.
    async fn hand_in(&self, open: &mut Open, slab: Slab, offset: u64, kind: ChunkKind) -> bool {
        let keep = slab.bytes.len().min(limits::RUNG_BYTES);
        let drop = (open.window.len() + keep).saturating_sub(limits::RUNG_BYTES);
        open.window.drain(..drop.min(open.window.len()));
        open.window.extend_from_slice(&slab.bytes[slab.bytes.len() - keep..]);
        let rung = Some(rung_crc(&open.window));
        let at = At::File { origin: open.origin.clone(), segment: open.segment, incarnation: open.incarnation, offset };
        let received = self.io.clock().now();
        let mut admitted = self.admit.chunk(&self.stream, Chunk { slab, at, kind, received, own: false, rung });
        tokio::select! {
            biased;
            _ = &mut admitted => return false,
            () = std::future::ready(()) => {}
        }
        // While nothing is admitted the file grows on, and so does the lag that is told.
        loop {
            tokio::select! {
                biased;
                _ = &mut admitted => return true,
                () = self.io.sleep(Duration::from_millis(limits::SAFETY_POLL_MS)) => {
                    if let Ok(now) = open.file.stat() {
                        self.admit.lag(now.size.saturating_sub(open.offset));
                    }
                }
            }
        }
    }

    /// A part line at the end of a finished file: a lost tail.
    pub(super) async fn lose_part(&self, open: &mut Open) {
        if open.part.is_empty() {
            return;
        }
        let slab = Slab::from_bytes(std::mem::take(&mut open.part));
        let start = open.offset - slab.bytes.len() as u64;
        self.hand_in(open, slab, start, ChunkKind::Broken("lost_tail")).await;
    }

    /// True if the name is to be looked at although the file still grows.
    fn is_name_due(&self, open: &Open) -> bool {
        self.io.clock().mono().saturating_sub(open.named) >= limits::NAME_LOOK_MS * 1_000_000
    }

    /// What the file alone says that was read to its end just now; `None` if it is as it was read.
    async fn look_inside(&self, open: &mut Open) -> Option<Look> {
        if open.now.size < open.offset {
            return Some(Look::Restarted);
        }
        match self.prove(open).await {
            Ok(()) => None,
            Err(ReadError::Restarted) => Some(Look::Restarted),
            Err(ReadError::Io(_)) => Some(Look::Wait),
        }
    }

    /// What the name and the file say, the latter when it was read to its end just now.
    pub(super) async fn look(&self, open: &mut Open) -> Look {
        if let Some(look) = self.look_inside(open).await {
            return look;
        }
        open.named = self.io.clock().mono();
        if open.dated.is_none() {
            // Asked again at the next look if it cannot be told now.
            open.dated = self.dated(&open.stat).unwrap_or_default();
        }
        match self.io.stat(&self.path) {
            Err(_) => Look::Away,
            Ok(named) if same(&named, &open.stat) => Look::Wait,
            Ok(_) => Look::Rotated,
        }
    }

    /// Looks whether the file, where it changed, still holds what was read just before the place:
    /// cut and grown past it between two looks, it holds other bytes.
    async fn prove(&self, open: &mut Open) -> Result<(), ReadError> {
        if open.now.modified == open.stat.modified {
            return Ok(());
        }
        let known = [open.window.as_slice(), &open.part].concat();
        let proof = known.get(known.len().saturating_sub(limits::RUNG_BYTES)..).unwrap_or_default();
        let found = self.before(&*open.file, open.offset).await?;
        // Fewer bytes than there were: it was cut just now.
        if found.get(found.len().saturating_sub(proof.len())..) != Some(proof) {
            return Err(ReadError::Restarted);
        }
        open.stat.modified = open.now.modified;
        Ok(())
    }

    /// Ends the file that is open and begins the next: the one after it in the dated tree, or
    /// what the name is now.
    async fn rotate(&self, open: &mut Open) -> Option<Open> {
        // The writer closed it before the swap, so one more read has all of it; unless it was cut before.
        loop {
            let look = match self.read_to_end(open).await {
                Ok(()) if self.admit.is_closed() => return None,
                Ok(()) => self.look(open).await,
                Err(ReadError::Restarted) => Look::Restarted,
                Err(ReadError::Io(_)) => return None,
            };
            match look {
                Look::Restarted => self.restart(open).await,
                Look::Rotated | Look::Away => break,
                Look::Wait => return None,
            }
        }
        let next = match self.next(open).await {
            Ok(next) => next?,
            Err(what) => {
                self.standing.set(State::Retrying(what));
                return None;
            }
        };
        self.lose_part(open).await;
        tracing::info!(from = %open.path.display(), to = %next.path.display(), read = open.offset, "rotated");
        self.describe(&next);
        if next.dated.is_none() || next.incarnation > 0 {
            // Its number or its life is known to nobody else.
            self.admit.saved().await;
        }
        Some(next)
    }

    /// What comes after a file; `None` if that cannot be seen yet.
    async fn next(&self, open: &Open) -> Result<Option<Open>, String> {
        let looks = |e: io::Error| format!("cannot look for what comes after {}: {e}", open.path.display());
        let dated = match open.dated {
            Some(dated) => Some(dated),
            None => self.dated(&open.stat).map_err(looks)?,
        };
        if dated.is_none()
            && let Some(next) = self.known_behind(open.segment).await.map_err(looks)?
        {
            return Ok(Some(next));
        }
        let named = self.io.stat(&self.path).ok();
        if let Some(dated) = dated {
            for (segment, path) in self.siblings.files(&*self.io).map_err(looks)? {
                if segment <= dated || self.io.stat(&path).is_ok_and(|s| same(&s, &open.stat)) {
                    continue;
                }
                // By its dated name: the name itself may be yet another file by now.
                match self.open(&path, Some(open.segment)).await {
                    Ok(next) => return Ok(Some(next)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        tracing::error!(path = %path.display(), "a part was gone before it was read, it is lost; see who removes alert files");
                    }
                    // Not passed over: it is read once it can be opened.
                    Err(e) => return Err(format!("cannot open {}: {e}; fix its permissions", path.display())),
                }
            }
        }
        if named.is_none_or(|named| same(&named, &open.stat)) {
            return Ok(None);
        }
        self.open(&self.path, Some(open.segment)).await.map(Some).map_err(|e| self.not_open(&e))
    }

    /// Why the name cannot be followed now, for the person who is paged.
    pub(super) fn not_open(&self, e: &io::Error) -> String {
        let path = self.path.display();
        match e.kind() {
            io::ErrorKind::NotFound => format!("{path} is not there; waiting for it"),
            io::ErrorKind::PermissionDenied => format!("cannot open {path}: {e}; put the agent's user into the group that owns it"),
            _ => format!("cannot open {path}: {e}"),
        }
    }
}

pub(super) fn same(a: &Stat, b: &Stat) -> bool {
    (a.device, a.inode) == (b.device, b.inode)
}

fn position(open: &Open) -> Position {
    Position::File { segment: open.segment, incarnation: open.incarnation, offset: open.offset - open.part.len() as u64 }
}

fn row_of(open: &Open, boot: String) -> SegmentRow {
    SegmentRow {
        segment: open.segment,
        incarnation: open.incarnation,
        path: open.path.display().to_string(),
        device: open.stat.device,
        inode: open.stat.inode,
        born: open.stat.born,
        head_len: open.head.0,
        head_crc: open.head.1,
        finished: false,
        boot,
        rungs: open.rungs.clone(),
    }
}
