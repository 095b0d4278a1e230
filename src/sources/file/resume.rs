//! Going on after a restart: which file the checkpoint speaks of, which place in it, and whether
//! its bytes still are those that were read.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::follow::{Follow, Next, Open};
use crate::{
    checkpoint::{Row, SegmentRow, rung_crc},
    framing::Objects,
    io::{File, Stat},
    position::Position,
};

impl Follow {
    /// Which life of a segment a file is that is read from its start. A branch may have read it
    /// before a restart, further than others: it goes on only if the bytes still are what it read.
    pub(super) async fn life_of(&self, segment: u32, file: &dyn File, stat: &Stat, head: (u32, u32)) -> io::Result<u16> {
        let Some(row) = &self.saved else { return Ok(0) };
        let Some(saved) = row.segments.iter().filter(|s| s.segment == segment).max_by_key(|s| s.incarnation) else { return Ok(0) };
        let read_to = row.branches.iter().filter_map(|branch| match branch.position {
            Position::File { segment: s, incarnation, offset } if (s, incarnation) == (segment, saved.incarnation) => Some(offset),
            _ => None,
        });
        let agrees = match self.proven(file, saved, stat.size).await?.1 {
            Some(agrees) => agrees,
            None => saved.head_len == 0 || head == (saved.head_len, saved.head_crc),
        };
        let is_whole = agrees && read_to.max().is_none_or(|read_to| read_to <= stat.size) && !self.is_other_boot(row, saved);
        Ok(if is_whole { saved.incarnation } else { saved.incarnation.saturating_add(1) })
    }

    /// True if the host went down while bytes above the watermarks may have been handed on: after a
    /// power loss others may stand in their place.
    fn is_other_boot(&self, row: &Row, saved: &SegmentRow) -> bool {
        !row.drained && !saved.boot.is_empty() && saved.boot != self.io.boot()
    }

    /// Finds the file that the checkpoint speaks of, and the place in it.
    ///
    /// # Errors
    /// What kept it from looking. A file that cannot be read now is no file that is gone: the
    /// caller tries again.
    pub(super) async fn resume(&self, row: &Row) -> io::Result<(Option<Open>, Next)> {
        let Some(Position::File { segment, incarnation, offset }) = row.lowest().cloned() else { return self.begin().await };
        // A later life of the file may have begun that nothing is acked of yet.
        let lives = row.segments.iter().filter(|s| s.segment == segment && s.incarnation >= incarnation);
        let Some(saved) = lives.max_by_key(|s| s.incarnation) else {
            // Nothing is known of the file, only its number.
            let next = segment.checked_sub(1).map_or(Next::NewerThan(None), Next::Behind);
            let Some(mut open) = self.there(next).await? else { return Ok((None, next)) };
            if open.segment == segment {
                (open.incarnation, open.offset) = (incarnation, offset);
                open.origin = self.siblings.origin(segment, incarnation);
                open.window = self.before(&*open.file, offset).await?;
            }
            return Ok((Some(open), Next::Named));
        };
        let is_later = saved.incarnation > incarnation;
        let from = if is_later { 0 } else { offset };
        for (path, is_known) in self.candidates(saved)? {
            match self.resume_in(&path, row, saved, from, is_later).await {
                Ok(Some(open)) => return Ok((Some(open), Next::Named)),
                Ok(None) => {}
                // Others that cannot be read may be anybody's; this one is ours.
                Err(e) if is_known && e.kind() != io::ErrorKind::NotFound => return Err(e),
                Err(_) => {}
            }
        }
        tracing::error!(path = saved.path, offset, "the file that was being read is gone, its rest is lost; going on with the next one");
        let next = Next::Behind(segment);
        Ok((self.there(next).await?, next))
    }

    /// Opens what comes next, if it is there.
    async fn there(&self, next: Next) -> io::Result<Option<Open>> {
        match self.open_next(next).await {
            Ok(open) => Ok(Some(open)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Opens a file at the place where the checkpoint left it; `None` if it is another file.
    ///
    /// - `from`: where its first unacked byte is, if all is as it was.
    /// - `is_later`: the life that is saved is one of which nothing is acked.
    async fn resume_in(&self, path: &Path, row: &Row, saved: &SegmentRow, from: u64, is_later: bool) -> io::Result<Option<Open>> {
        let file = self.io.open(path)?;
        let stat = file.stat()?;
        let same_file =
            (stat.device, stat.inode) == (saved.device, saved.inode) && (saved.born == 0 || stat.born == 0 || saved.born == stat.born);
        let head = self.bytes(&*file, 0, saved.head_len as usize).await?;
        let same_head = saved.head_len > 0 && head.len() == saved.head_len as usize && crc32c::crc32c(&head) == saved.head_crc;
        if !(same_file || same_head) {
            return Ok(None);
        }
        let (proven, agrees) = self.proven(&*file, saved, stat.size).await?;
        let agrees = agrees.unwrap_or(same_head || saved.head_len == 0 && !is_later);
        if !same_file && !agrees {
            return Ok(None);
        }
        let mut open = Open {
            file,
            stat,
            now: stat,
            named: 0,
            path: path.to_owned(),
            segment: saved.segment,
            dated: self.dated(&stat)?,
            incarnation: saved.incarnation,
            offset: from,
            part: Vec::new(),
            objects: Objects::default(),
            window: Vec::new(),
            rungs: Vec::new(),
            head: (saved.head_len, saved.head_crc),
            origin: self.siblings.origin(saved.segment, saved.incarnation),
        };
        if !agrees || stat.size < from || self.is_other_boot(row, saved) {
            open.incarnation = saved.incarnation.saturating_add(1);
            open.origin = self.siblings.origin(open.segment, open.incarnation);
            // What is proven was shipped; from there on anything may have been lost and written anew.
            open.offset = if agrees && stat.size >= from { from } else { from.min(proven) };
            open.rungs = saved.rungs.iter().filter(|rung| rung.offset <= open.offset).copied().collect();
            open.head = self.head(&*open.file).await?;
            tracing::warn!(path = %path.display(), saved = from, size = stat.size, resumes_at = open.offset, "file may not be as it was left; a new incarnation begins");
        }
        open.window = self.before(&*open.file, open.offset).await?;
        Ok(Some(open))
    }

    /// Up to where a file holds what was read from it, and whether its highest rung agrees; `None`
    /// if it has no rung that fits.
    async fn proven(&self, file: &dyn File, saved: &SegmentRow, size: u64) -> io::Result<(u64, Option<bool>)> {
        let mut agrees = None;
        for rung in saved.rungs.iter().rev().filter(|rung| rung.offset <= size) {
            if rung_crc(&self.before(file, rung.offset).await?) == rung.crc {
                return Ok((rung.offset, Some(agrees.unwrap_or(true))));
            }
            agrees = Some(false);
        }
        Ok((0, agrees))
    }

    /// Opens what comes next where nothing is open.
    pub(super) async fn open_next(&self, next: Next) -> io::Result<Open> {
        let (newer_than, last) = match next {
            Next::Named => return self.open(&self.path, None).await,
            Next::NewerThan(known) => (known, None),
            Next::Behind(last) => (Some(last), Some(last)),
        };
        let siblings = self.siblings.files(&*self.io)?;
        if siblings.is_empty()
            && let Some(last) = last
            && let Some(known) = self.known_behind(last).await?
        {
            return Ok(known);
        }
        for (segment, path) in siblings {
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

    /// The first file behind `last` that the checkpoint knows, whatever its name is by now: where no
    /// dates number the files, the name alone would pass over those that were renamed away since.
    pub(super) async fn known_behind(&self, last: u32) -> io::Result<Option<Open>> {
        let Some(row) = &self.saved else { return Ok(None) };
        let mut later: Vec<&SegmentRow> = row.segments.iter().filter(|saved| saved.segment > last).collect();
        later.sort_by_key(|saved| saved.segment);
        for saved in later {
            for (path, _) in self.candidates(saved)?.into_iter().filter(|(_, is_known)| *is_known) {
                match self.open(&path, Some(saved.segment - 1)).await {
                    // Its number may be another file's by now.
                    Ok(open) if saved.born == 0 || open.stat.born == 0 || open.stat.born == saved.born => return Ok(Some(open)),
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(None)
    }

    /// Names that may lead to the file, each with whether it does by its inode: those first, since
    /// they need no reading to be told.
    fn candidates(&self, saved: &SegmentRow) -> io::Result<Vec<(PathBuf, bool)>> {
        let mut paths = vec![self.path.clone(), PathBuf::from(&saved.path)];
        paths.extend(self.siblings.files(&*self.io)?.into_iter().rev().map(|(_, path)| path));
        if let Some(dir) = self.path.parent() {
            paths.extend(there_or(self.io.list(dir))?.unwrap_or_default());
        }
        let mut found: Vec<(PathBuf, bool)> = Vec::new();
        for path in paths {
            let Some(stat) = there_or(self.io.stat(&path))? else { continue };
            if stat.is_file && found.iter().all(|(known, _)| *known != path) {
                found.push((path, (stat.device, stat.inode) == (saved.device, saved.inode)));
            }
        }
        found.sort_by_key(|(_, is_known)| !is_known);
        Ok(found)
    }
}

/// `None` for what is not there, or is not ours to see: others may keep files beside ours.
fn there_or<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}
