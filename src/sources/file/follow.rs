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

use crate::{
    checkpoint::{Row, Rung, SegmentRow, rung_crc},
    framing::whole_frames,
    io::{File, Io, Slab, Stat},
    limits,
    metrics::{Standing, State},
    position::Position,
    sources::{Admit, At, Chunk, ChunkKind},
};

/// Finished files of the same stream, beside the name.
pub trait Siblings {
    /// Their segments and paths, in order.
    fn files(&self, io: &dyn Io) -> Vec<(u32, PathBuf)>;
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
    io: Rc<dyn Io>,
    admit: Rc<dyn Admit>,
    standing: Standing,
    /// The name; of several files it may change.
    pub(super) path: PathBuf,
    pub(super) stream: String,
    siblings: Box<dyn Siblings>,
    start_at: StartAt,
    /// What the checkpoint held at the start.
    saved: Option<Row>,
}

/// The file that is being read.
pub(super) struct Open {
    pub(super) file: Rc<dyn File>,
    pub(super) stat: Stat,
    pub(super) path: PathBuf,
    /// Its number in positions; grows with each file.
    segment: u32,
    /// Its dated number, where it is known.
    dated: Option<u32>,
    incarnation: u16,
    /// Of the next byte to be read, the part line included.
    pub(super) offset: u64,
    /// Part line, read and not yet whole; it ends at `offset`.
    part: Vec<u8>,
    /// The last bytes before the part line, for rungs and for the look back.
    window: Vec<u8>,
    /// Proofs of an earlier life that still hold below `offset`.
    rungs: Vec<Rung>,
    head: (u32, u32),
    origin: Arc<str>,
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
        Self { io, admit, standing, path, stream, siblings, start_at, saved }
    }

    /// Runs until the admission is closed.
    pub async fn run(self) {
        let watch = self.io.watch(&self.path);
        let (mut current, mut next) = match &self.saved {
            Some(row) => self.resume(row).await,
            None => self.begin().await,
        };
        let mut announced = false;
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
            let look = match self.read_to_end(open).await {
                Ok(()) if self.admit.is_closed() => break,
                Ok(()) => self.look(open).await,
                Err(ReadError::Restarted) => Look::Restarted,
                Err(ReadError::Io(e)) => {
                    self.standing
                        .set(State::Retrying(format!("cannot read {}: {e}; check its disk and its permissions", open.path.display())));
                    Look::Wait
                }
            };
            match look {
                Look::Wait | Look::Away => self.wait(&*watch).await,
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
        open.head = self.head(&*open.file).await;
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
    async fn begin(&self) -> (Option<Open>, Next) {
        match self.open(&self.path, None).await {
            Ok(open) => (Some(self.begin_in(open).await), Next::Named),
            // What appears later is new from its first file on, however often it is swapped first.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (None, Next::NewerThan(self.siblings.files(&*self.io).last().map(|(segment, _)| *segment)))
            }
            Err(_) => (None, Next::Named),
        }
    }

    /// Goes to where a first start begins.
    pub(super) async fn begin_in(&self, mut open: Open) -> Open {
        if self.start_at == StartAt::End {
            let size = open.file.stat().map(|s| s.size).unwrap_or(0);
            open.offset = self.last_line_end(&*open.file, size).await;
            open.window = self.before(&*open.file, open.offset).await;
        }
        open
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
        let dated = self.dated(&stat);
        let segment = match (dated, last) {
            (Some(dated), Some(last)) => dated.max(last + 1),
            (Some(dated), None) => dated,
            (None, Some(last)) => last + 1,
            (None, None) => self.siblings.unnamed(&*self.io),
        };
        let head = self.head(&*file).await;
        let incarnation = self.life_of(segment, &*file, &stat, head).await;
        let origin = self.siblings.origin(segment, incarnation);
        let path = path.to_owned();
        let (part, window, rungs) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Open { file, stat, path, segment, dated, incarnation, offset: 0, part, window, rungs, head, origin })
    }

    /// Which life of a segment a file is that is read from its start. A branch may have read it
    /// before a restart, further than others: it goes on only if the bytes still are what it read.
    async fn life_of(&self, segment: u32, file: &dyn File, stat: &Stat, head: (u32, u32)) -> u16 {
        let Some(row) = &self.saved else { return 0 };
        let Some(saved) = row.segments.iter().filter(|s| s.segment == segment).max_by_key(|s| s.incarnation) else { return 0 };
        let read_to = row.branches.iter().filter_map(|branch| match branch.position {
            Position::File { segment: s, incarnation, offset } if (s, incarnation) == (segment, saved.incarnation) => Some(offset),
            _ => None,
        });
        let agrees = match self.proven(file, saved, stat.size).await.1 {
            Some(agrees) => agrees,
            None => saved.head_len == 0 || head == (saved.head_len, saved.head_crc),
        };
        let is_whole = agrees && read_to.max().is_none_or(|read_to| read_to <= stat.size) && !self.is_other_boot(row, saved);
        if is_whole { saved.incarnation } else { saved.incarnation.saturating_add(1) }
    }

    /// True if the host went down while bytes above the watermarks may have been handed on: after a
    /// power loss others may stand in their place.
    fn is_other_boot(&self, row: &Row, saved: &SegmentRow) -> bool {
        !row.drained && !saved.boot.is_empty() && saved.boot != self.io.boot()
    }

    fn dated(&self, stat: &Stat) -> Option<u32> {
        let files = self.siblings.files(&*self.io);
        files.into_iter().rev().find(|(_, path)| self.io.stat(path).is_ok_and(|s| same(&s, stat))).map(|(segment, _)| segment)
    }

    async fn head(&self, file: &dyn File) -> (u32, u32) {
        let bytes = self.bytes(file, 0, limits::FINGERPRINT_BYTES).await;
        (u32::try_from(bytes.len()).unwrap_or(u32::MAX), crc32c::crc32c(&bytes))
    }

    async fn bytes(&self, file: &dyn File, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let (slab, read) = file.read_at(offset + bytes.len() as u64, len - bytes.len(), false, self.io.slabs().take(len)).await;
            match read {
                Ok(n) if n > 0 => bytes.extend_from_slice(&slab.bytes),
                _ => break,
            }
        }
        bytes
    }

    async fn before(&self, file: &dyn File, offset: u64) -> Vec<u8> {
        let start = offset.saturating_sub(limits::RUNG_BYTES as u64);
        self.bytes(file, start, usize::try_from(offset - start).unwrap_or(0)).await
    }

    async fn last_line_end(&self, file: &dyn File, size: u64) -> u64 {
        let mut end = size;
        while end > 0 {
            let start = end.saturating_sub(limits::SLAB_BYTES as u64);
            let bytes = self.bytes(file, start, usize::try_from(end - start).unwrap_or(0)).await;
            match whole_frames(&bytes) {
                0 if size - start >= limits::FRAME_BYTES_MAX as u64 => return size,
                0 => end = start,
                whole => return start + whole as u64,
            }
        }
        0
    }

    /// Reads what is there now, whole frames only.
    async fn read_to_end(&self, open: &mut Open) -> Result<(), ReadError> {
        self.read_some(open, u64::MAX).await.map(|_| ())
    }

    /// Reads what is there now, and about `most` bytes of it; true if the end was reached.
    pub(super) async fn read_some(&self, open: &mut Open, most: u64) -> Result<bool, ReadError> {
        let from = open.offset;
        loop {
            if self.admit.is_closed() {
                return Ok(true);
            }
            if open.offset - from >= most {
                return Ok(false);
            }
            let size = open.file.stat()?.size;
            let behind = size.saturating_sub(open.offset);
            self.admit.lag(behind);
            let room = limits::SLAB_BYTES.max(open.part.len() * 2);
            let mut slab = self.io.slabs().take(room);
            slab.bytes.extend_from_slice(&open.part);
            let want = room - open.part.len();
            let (slab, read) = open.file.read_at(open.offset, want, behind > limits::COLD_BACKLOG_BYTES, slab).await;
            let n = read?;
            if n == 0 {
                return Ok(true);
            }
            // Looked at after the read: whatever was read is of the life that is proven here.
            self.prove(open).await?;
            open.offset += n as u64;
            self.cut(open, slab).await;
            // A backlog that nobody wants takes no credits and would never wait: stop signals,
            // answers and timers are heard between two slabs.
            self.io.pause().await;
            if u64::from(open.head.0) < (limits::FINGERPRINT_BYTES as u64).min(open.offset) {
                open.head = self.head(&*open.file).await;
                self.describe(open);
            }
        }
    }

    /// Hands the whole frames of `slab` in and keeps the part line.
    async fn cut(&self, open: &mut Open, mut slab: Slab) {
        let whole = whole_frames(&slab.bytes);
        open.part.clear();
        if whole == 0 && slab.bytes.len() >= limits::FRAME_BYTES_MAX {
            let start = open.offset - slab.bytes.len() as u64;
            self.hand_in(open, slab, start, ChunkKind::Broken("too_long")).await;
            return;
        }
        open.part.extend_from_slice(slab.bytes.get(whole..).unwrap_or_default());
        if whole > 0 {
            let start = open.offset - slab.bytes.len() as u64;
            slab.bytes.truncate(whole);
            self.hand_in(open, slab, start, ChunkKind::Lines).await;
        }
    }

    async fn hand_in(&self, open: &mut Open, slab: Slab, offset: u64, kind: ChunkKind) {
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
            () = &mut admitted => return,
            () = std::future::ready(()) => {}
        }
        // While nothing is admitted the file grows on, and so does the lag that is told.
        loop {
            tokio::select! {
                biased;
                () = &mut admitted => return,
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

    /// What the name and the file say now that its end is reached.
    pub(super) async fn look(&self, open: &mut Open) -> Look {
        let Ok(now) = open.file.stat() else { return Look::Wait };
        if now.size < open.offset {
            return Look::Restarted;
        }
        match self.prove(open).await {
            Ok(()) => {}
            Err(ReadError::Restarted) => return Look::Restarted,
            Err(ReadError::Io(_)) => return Look::Wait,
        }
        if open.dated.is_none() {
            open.dated = self.dated(&open.stat);
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
        let now = open.file.stat()?;
        if now.modified == open.stat.modified {
            return Ok(());
        }
        let known = [open.window.as_slice(), &open.part].concat();
        let proof = known.get(known.len().saturating_sub(limits::RUNG_BYTES)..).unwrap_or_default();
        let found = self.before(&*open.file, open.offset).await;
        let found = found.get(found.len().saturating_sub(proof.len())..).unwrap_or_default();
        if found.len() < proof.len() {
            let is_cut = open.file.stat()?.size < open.offset;
            return Err(if is_cut {
                ReadError::Restarted
            } else {
                io::Error::other("bytes that were read before cannot be read again").into()
            });
        }
        if found != proof {
            return Err(ReadError::Restarted);
        }
        open.stat.modified = now.modified;
        Ok(())
    }

    /// Ends the file that is open and begins the next: the one after it in the dated tree, or
    /// what the name is now.
    async fn rotate(&self, open: &mut Open) -> Option<Open> {
        // The writer closed it before the swap, so one more read has all of it.
        if self.read_to_end(open).await.is_err() || self.admit.is_closed() {
            return None;
        }
        let next = self.next(open).await?;
        self.lose_part(open).await;
        tracing::info!(from = %open.path.display(), to = %next.path.display(), read = open.offset, "rotated");
        self.describe(&next);
        if next.dated.is_none() || next.incarnation > 0 {
            // Its number or its life is known to nobody else.
            self.admit.saved().await;
        }
        Some(next)
    }

    async fn next(&self, open: &Open) -> Option<Open> {
        let named = self.io.stat(&self.path).ok();
        if let Some(dated) = open.dated.or_else(|| self.dated(&open.stat)) {
            for (segment, path) in self.siblings.files(&*self.io) {
                if segment <= dated || self.io.stat(&path).is_ok_and(|s| same(&s, &open.stat)) {
                    continue;
                }
                // By its dated name: the name itself may be yet another file by now.
                match self.open(&path, Some(open.segment)).await {
                    Ok(next) => return Some(next),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        tracing::error!(path = %path.display(), "a part was gone before it was read, it is lost; see who removes alert files");
                    }
                    // Not passed over: it is read once it can be opened.
                    Err(e) => {
                        self.standing.set(State::Retrying(format!("cannot open {}: {e}; fix its permissions", path.display())));
                        return None;
                    }
                }
            }
        }
        if named.is_none_or(|named| same(&named, &open.stat)) {
            return None;
        }
        match self.open(&self.path, Some(open.segment)).await {
            Ok(next) => Some(next),
            Err(e) => {
                self.standing.set(State::Retrying(self.not_open(&e)));
                None
            }
        }
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

    /// Finds the file that the checkpoint speaks of, and the place in it.
    pub(super) async fn resume(&self, row: &Row) -> (Option<Open>, Next) {
        let Some(Position::File { segment, incarnation, offset }) = row.lowest().cloned() else { return self.begin().await };
        // A later life of the file may have begun that nothing is acked of yet.
        let lives = row.segments.iter().filter(|s| s.segment == segment && s.incarnation >= incarnation);
        let Some(saved) = lives.max_by_key(|s| s.incarnation) else {
            // Nothing is known of the file, only its number.
            let next = segment.checked_sub(1).map_or(Next::NewerThan(None), Next::Behind);
            let mut open = self.open_next(next).await.ok();
            if let Some(open) = open.as_mut().filter(|open| open.segment == segment) {
                (open.incarnation, open.offset) = (incarnation, offset);
                open.origin = self.siblings.origin(segment, incarnation);
                open.window = self.before(&*open.file, offset).await;
            }
            return (open, next);
        };
        let is_later = saved.incarnation > incarnation;
        let from = if is_later { 0 } else { offset };
        for path in self.candidates(saved) {
            let Ok(file) = self.io.open(&path) else { continue };
            let Ok(stat) = file.stat() else { continue };
            let same_file =
                (stat.device, stat.inode) == (saved.device, saved.inode) && (saved.born == 0 || stat.born == 0 || saved.born == stat.born);
            let head = self.bytes(&*file, 0, saved.head_len as usize).await;
            let same_head = saved.head_len > 0 && head.len() == saved.head_len as usize && crc32c::crc32c(&head) == saved.head_crc;
            if !(same_file || same_head) {
                continue;
            }
            let (proven, agrees) = self.proven(&*file, saved, stat.size).await;
            let agrees = agrees.unwrap_or(same_head || saved.head_len == 0 && !is_later);
            if !same_file && !agrees {
                continue;
            }
            let mut open = Open {
                file,
                stat,
                path,
                segment,
                dated: None,
                incarnation: saved.incarnation,
                offset: from,
                part: Vec::new(),
                window: Vec::new(),
                rungs: Vec::new(),
                head: (saved.head_len, saved.head_crc),
                origin: self.siblings.origin(segment, saved.incarnation),
            };
            open.dated = self.dated(&open.stat);
            if !agrees || stat.size < from || self.is_other_boot(row, saved) {
                open.incarnation = saved.incarnation.saturating_add(1);
                open.origin = self.siblings.origin(segment, open.incarnation);
                // What is proven was shipped; from there on anything may have been lost and written anew.
                open.offset = if agrees && stat.size >= from { from } else { from.min(proven) };
                open.rungs = saved.rungs.iter().filter(|rung| rung.offset <= open.offset).copied().collect();
                open.head = self.head(&*open.file).await;
                tracing::warn!(path = %open.path.display(), saved = from, size = stat.size, resumes_at = open.offset, "file may not be as it was left; a new incarnation begins");
            }
            open.window = self.before(&*open.file, open.offset).await;
            return (Some(open), Next::Named);
        }
        tracing::error!(path = saved.path, offset, "the file that was being read is gone, its rest is lost; going on with the next one");
        (self.open_next(Next::Behind(segment)).await.ok(), Next::Behind(segment))
    }

    /// Up to where a file holds what was read from it, and whether its highest rung agrees; `None`
    /// if it has no rung that fits.
    async fn proven(&self, file: &dyn File, saved: &SegmentRow, size: u64) -> (u64, Option<bool>) {
        let mut agrees = None;
        for rung in saved.rungs.iter().rev().filter(|rung| rung.offset <= size) {
            if rung_crc(&self.before(file, rung.offset).await) == rung.crc {
                return (rung.offset, Some(agrees.unwrap_or(true)));
            }
            agrees = Some(false);
        }
        (0, agrees)
    }

    /// Opens what comes next where nothing is open.
    async fn open_next(&self, next: Next) -> io::Result<Open> {
        let (newer_than, last) = match next {
            Next::Named => return self.open(&self.path, None).await,
            Next::NewerThan(known) => (known, None),
            Next::Behind(last) => (Some(last), Some(last)),
        };
        for (segment, path) in self.siblings.files(&*self.io) {
            if newer_than.is_some_and(|known| segment <= known) {
                continue;
            }
            match self.open(&path, last).await {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        self.open(&self.path, last).await
    }

    fn candidates(&self, saved: &SegmentRow) -> Vec<PathBuf> {
        let mut paths = vec![self.path.clone(), PathBuf::from(&saved.path)];
        paths.extend(self.siblings.files(&*self.io).into_iter().rev().map(|(_, path)| path));
        if let Some(dir) = self.path.parent() {
            paths.extend(self.io.list(dir).unwrap_or_default());
        }
        // The same inode first, whatever its name: it needs no reading to be told.
        let (mut same_inode, others): (Vec<_>, Vec<_>) = paths
            .into_iter()
            .filter(|path| self.io.stat(path).is_ok_and(|s| s.is_file))
            .partition(|path| self.io.stat(path).is_ok_and(|s| (s.device, s.inode) == (saved.device, saved.inode)));
        same_inode.extend(others);
        same_inode
    }
}

fn same(a: &Stat, b: &Stat) -> bool {
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
