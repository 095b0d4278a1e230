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
    checkpoint::{Row, SegmentRow, rung_crc},
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
    head: (u32, u32),
    origin: Arc<str>,
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
        Self { io, admit, standing, path, stream, siblings, start_at }
    }

    /// Runs until the admission is closed.
    pub async fn run(self) {
        let watch = self.io.watch(&self.path);
        let mut opened = false;
        let mut current = match self.admit.resume(&self.stream) {
            Some(row) => {
                let found = self.resume(&row).await;
                opened = found.is_some();
                found
            }
            None => self.begin().await,
        };
        if let Some(open) = &current
            && !opened
        {
            self.announce(open);
            opened = true;
        }
        if current.is_none() {
            tracing::info!(path = %self.path.display(), "file is not there yet; waiting for it");
        }
        while !self.admit.is_closed() {
            let Some(open) = &mut current else {
                match self.open(&self.path, 0, None).await {
                    Ok(open) => {
                        if opened {
                            self.describe(&open);
                        } else {
                            self.announce(&open);
                            opened = true;
                        }
                        current = Some(open);
                        continue;
                    }
                    Err(e) => self.standing.set(State::Retrying(self.not_open(&e))),
                }
                self.wait(&*watch).await;
                continue;
            };
            self.standing.set(State::Ready);
            match self.read_to_end(open).await {
                Ok(()) => {}
                Err(e) => {
                    self.standing
                        .set(State::Retrying(format!("cannot read {}: {e}; check its disk and its permissions", open.path.display())));
                    self.wait(&*watch).await;
                    continue;
                }
            }
            if self.admit.is_closed() {
                break;
            }
            match self.look(open).await {
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

    /// Begins anew in the same file, as another incarnation.
    pub(super) async fn restart(&self, open: &mut Open) {
        self.lose_part(open).await;
        tracing::warn!(path = %open.path.display(), read_to = open.offset, "file was cut or written over; reading it from its start");
        open.incarnation = open.incarnation.saturating_add(1);
        open.offset = 0;
        open.window.clear();
        open.origin = self.siblings.origin(open.segment, open.incarnation);
        open.head = self.head(&*open.file).await;
        self.describe(open);
    }

    async fn wait(&self, watch: &dyn crate::io::Watch) {
        tokio::select! {
            biased;
            () = self.admit.closed() => {}
            () = watch.changed(Duration::from_millis(limits::SAFETY_POLL_MS)) => {}
        }
    }

    /// The first start of all.
    async fn begin(&self) -> Option<Open> {
        let open = self.open(&self.path, 0, None).await.ok()?;
        Some(self.begin_in(open).await)
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

    pub(super) fn announce(&self, open: &Open) {
        self.admit.open(&self.stream, position(open));
        self.describe(open);
    }

    fn describe(&self, open: &Open) {
        self.admit.segment(&self.stream, row_of(open));
    }

    /// Opens `path`; its segment is its dated name's, or the one after `last`.
    pub(super) async fn open(&self, path: &Path, incarnation: u16, last: Option<u32>) -> io::Result<Open> {
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
        let origin = self.siblings.origin(segment, incarnation);
        let path = path.to_owned();
        Ok(Open { file, stat, path, segment, dated, incarnation, offset: 0, part: Vec::new(), window: Vec::new(), head, origin })
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
    async fn read_to_end(&self, open: &mut Open) -> io::Result<()> {
        self.read_some(open, u64::MAX).await.map(|_| ())
    }

    /// Reads what is there now, and about `most` bytes of it; true if the end was reached.
    pub(super) async fn read_some(&self, open: &mut Open, most: u64) -> io::Result<bool> {
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
        if open.dated.is_none() {
            open.dated = self.dated(&open.stat);
        }
        match self.io.stat(&self.path) {
            Err(_) => Look::Away,
            Ok(named) if same(&named, &open.stat) => {
                // Cut and grown past the old end between two looks: what lay before is other bytes.
                let before = open.offset - open.part.len() as u64;
                if now.modified != open.stat.modified
                    && !open.window.is_empty()
                    && self.before(&*open.file, before).await != tail_of(&open.window, before)
                {
                    return Look::Restarted;
                }
                open.stat.modified = now.modified;
                Look::Wait
            }
            Ok(_) => Look::Rotated,
        }
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
                match self.open(&path, 0, Some(open.segment)).await {
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
        match self.open(&self.path, 0, Some(open.segment)).await {
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
    pub(super) async fn resume(&self, row: &Row) -> Option<Open> {
        let Some(Position::File { segment, incarnation, offset }) = row.lowest().cloned() else {
            let open = self.begin().await?;
            self.announce(&open);
            return Some(open);
        };
        let saved = row.segments.iter().find(|s| (s.segment, s.incarnation) == (segment, incarnation)).cloned();
        let start = Position::File { segment, incarnation, offset };
        self.admit.open(&self.stream, start);
        let Some(saved) = saved else {
            // Nothing is known of the file, only its number.
            let mut open = self.first_from(segment).await?;
            open.offset = if open.segment == segment { offset } else { 0 };
            self.describe(&open);
            return Some(open);
        };
        for path in self.candidates(&saved) {
            let Ok(file) = self.io.open(&path) else { continue };
            let Ok(stat) = file.stat() else { continue };
            let same_file =
                (stat.device, stat.inode) == (saved.device, saved.inode) && (saved.born == 0 || stat.born == 0 || saved.born == stat.born);
            let head = self.bytes(&*file, 0, saved.head_len as usize).await;
            let same_head = saved.head_len > 0 && head.len() == saved.head_len as usize && crc32c::crc32c(&head) == saved.head_crc;
            if !(same_file || same_head) {
                continue;
            }
            let rung = saved.rungs.iter().rev().find(|r| r.offset <= stat.size).copied();
            let agrees = match rung {
                Some(rung) => rung_crc(&self.before(&*file, rung.offset).await) == rung.crc,
                None => saved.head_len == 0 || same_head,
            };
            if !same_file && !agrees {
                continue;
            }
            let mut open = Open {
                file,
                stat,
                path,
                segment,
                dated: None,
                incarnation,
                offset,
                part: Vec::new(),
                window: Vec::new(),
                head: (saved.head_len, saved.head_crc),
                origin: self.siblings.origin(segment, incarnation),
            };
            open.dated = self.dated(&open.stat);
            if !agrees || stat.size < offset {
                open.incarnation = incarnation.saturating_add(1);
                open.origin = self.siblings.origin(segment, open.incarnation);
                // Cut back by a power loss: what is there was shipped. Anything else: other bytes.
                open.offset = if agrees && rung.is_some() { stat.size } else { 0 };
                open.head = self.head(&*open.file).await;
                tracing::warn!(path = %open.path.display(), saved = offset, size = stat.size, resumes_at = open.offset, "file is not as it was left; a new incarnation begins");
            }
            open.window = self.before(&*open.file, open.offset).await;
            self.describe(&open);
            return Some(open);
        }
        tracing::error!(path = saved.path, offset, "the file that was being read is gone, its rest is lost; going on with the next one");
        let next = self.first_from(segment + 1).await?;
        self.describe(&next);
        Some(next)
    }

    /// The first file at or after a segment, or what the name is.
    async fn first_from(&self, segment: u32) -> Option<Open> {
        for (number, path) in self.siblings.files(&*self.io) {
            if number < segment {
                continue;
            }
            if let Ok(open) = self.open(&path, 0, segment.checked_sub(1)).await {
                return Some(open);
            }
        }
        self.open(&self.path, 0, segment.checked_sub(1)).await.ok()
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

/// The window is the bytes before an offset: all of them near the start of a file.
fn tail_of(window: &[u8], before: u64) -> &[u8] {
    let len = usize::try_from(before).unwrap_or(usize::MAX).min(window.len());
    &window[window.len() - len..]
}

fn position(open: &Open) -> Position {
    Position::File { segment: open.segment, incarnation: open.incarnation, offset: open.offset - open.part.len() as u64 }
}

fn row_of(open: &Open) -> SegmentRow {
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
        rungs: Vec::new(),
    }
}
