//! The life of one thread: it keeps one child, with the newest rules, and gives it files.
//!
//! A child has a few files at once, so that it never waits for the next one, and answers wake nobody until the last but a few are
//! there. It answers a file before it begins the next: the first that has no answer is the one that it is at. If that one takes
//! long, those behind it are taken back, for other children.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use super::{
    Loaded, Lost, Shared, Waiting, Why, closed,
    message::{Answered, Tell},
    process::{Process, SECOND},
};
use crate::{
    clock::Nanos,
    limits::{CHILD_ASKED_BYTES, CHILD_FILES_AT_ONCE, CHILD_FILES_MAX, CHILD_GRACE_S, CHILD_SLOW_MS},
    scan::outcome::Outcome,
};

/// Between two looks at whether the agent wants to end, while a file is scanned.
const LOOK: Nanos = SECOND / 4;
/// Between two looks for answers that rang no bell.
const GLANCE: Nanos = SECOND / 50;
const SLOW: Nanos = CHILD_SLOW_MS * 1_000_000;
/// Files that a child still has when it is given more.
const FEW: usize = CHILD_FILES_AT_ONCE / 3;

/// What a thread does next.
enum Next {
    Scan(VecDeque<Waiting>, Arc<Loaded>),
    Load(Arc<Loaded>),
}

pub(super) fn run(shared: &Shared, number: usize) {
    let mut process: Option<Process> = None;
    // The set that could not be loaded: tried again for a file, not for itself.
    let mut failed = None;
    while let Some(next) = next(shared, number, process.as_ref().map(|process| process.generation).or(failed)) {
        let set = match &next {
            Next::Scan(_, set) | Next::Load(set) => set.clone(),
        };
        let ready = ready(shared, &mut process, &set);
        shared.keep_pid(number, process.as_ref());
        failed = ready.as_ref().err().map(|_| set.generation);
        match (next, ready) {
            (Next::Load(_), Ok(())) => {}
            (Next::Load(_), Err(error)) => {
                tracing::error!(error, number, "a scan child cannot be made ready; it is tried again for the next file")
            }
            (Next::Scan(files, _), Err(error)) => {
                for file in files {
                    file.promise.keep(Err(Lost { why: Why::Io, text: error.clone() }));
                }
            }
            (Next::Scan(files, _), Ok(())) => {
                if let Some(child) = process.take() {
                    process = Turn::new(shared, number, child).run(files);
                }
            }
        }
        if process.as_ref().is_some_and(|process| process.files >= CHILD_FILES_MAX) {
            process = None;
            shared.keep_pid(number, None);
        }
    }
}

/// Waits for something to do; `None` if this thread is no longer wanted.
///
/// - `has`: the set that its child has.
fn next(shared: &Shared, number: usize, has: Option<u64>) -> Option<Next> {
    let mut work = shared.work();
    loop {
        if work.is_over || number >= work.wanted {
            // Under the lock, so that whoever wants this number again starts it again.
            work.running.remove(&number);
            work.pids.remove(&number);
            // A wake-up that was meant for a file goes on to another thread.
            shared.changed.notify_one();
            return None;
        }
        if let Some(set) = work.set.clone() {
            if !work.jobs.is_empty() {
                return Some(Next::Scan(work.share(CHILD_FILES_AT_ONCE), set));
            }
            if has != Some(set.generation) {
                return Some(Next::Load(set));
            }
        }
        work.idle += 1;
        work = shared.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        work.idle -= 1;
    }
}

impl super::Work {
    /// What one child takes of what waits: no more than leaves as much for each other one.
    fn share(&mut self, most: usize) -> VecDeque<Waiting> {
        let fair = self.jobs.len().div_ceil(self.wanted.max(1));
        self.jobs.drain(..fair.min(most)).collect()
    }
}

/// A child with this set.
fn ready(shared: &Shared, process: &mut Option<Process>, set: &Loaded) -> Result<(), String> {
    let mut child = match process.take() {
        Some(child) if child.generation == set.generation => {
            *process = Some(child);
            return Ok(());
        }
        Some(child) => child,
        None => Process::start(&shared.program).map_err(|error| format!("no scan child can be started: {error}"))?,
    };
    child.load(set.generation, &shared.limits, &set.file).map_err(|error| format!("a scan child cannot load the rules: {error}"))?;
    *process = Some(child);
    Ok(())
}

/// From the first file to when the child has none.
struct Turn<'a> {
    shared: &'a Shared,
    number: usize,
    child: Process,
    /// Without an answer, in the order in which the child has them: it is at the first.
    given: VecDeque<Given>,
    /// Names the next file.
    numbers: u64,
    /// When it began the first, and until when it may be at it.
    began: Nanos,
    deadline: Nanos,
    /// It was told to forget, and has not said that it did.
    forgets: bool,
    answers: Vec<(Waiting, Result<Outcome, Lost>)>,
}

struct Given {
    number: u64,
    file: Waiting,
    /// Of its message.
    bytes: usize,
}

impl<'a> Turn<'a> {
    fn new(shared: &'a Shared, number: usize, child: Process) -> Self {
        let given = VecDeque::new();
        Self { shared, number, child, given, numbers: 0, began: 0, deadline: 0, forgets: false, answers: Vec::new() }
    }

    /// Gives the child back, unless it is lost.
    fn run(mut self, files: VecDeque<Waiting>) -> Option<Process> {
        self.shared.busy.fetch_add(1, Ordering::Relaxed);
        let mut lost = self.give(files).err();
        while lost.is_none() && (self.forgets || !self.given.is_empty()) {
            lost = self.wait().err();
            // Before answers are handed on: the child goes on meanwhile.
            if lost.is_none() && self.given.len() <= FEW {
                lost = self.give_more().err();
            }
            if lost.is_some() || (self.given.is_empty() && !self.forgets) {
                break;
            }
            self.hand_on();
        }
        self.shared.busy.fetch_sub(1, Ordering::Relaxed);
        match lost {
            None => {
                self.hand_on();
                Some(self.child)
            }
            Some(lost) => {
                self.lose(lost);
                None
            }
        }
    }

    /// Answers go to who waits for them.
    fn hand_on(&mut self) {
        for (file, answer) in self.answers.drain(..) {
            file.promise.keep(answer);
        }
    }

    fn begin(&mut self) {
        self.began = self.child.now();
        self.deadline = self.began + (self.shared.limits.timeout_s + CHILD_GRACE_S) * SECOND;
    }

    fn give(&mut self, files: VecDeque<Waiting>) -> Result<(), Lost> {
        if self.given.is_empty() {
            self.begin();
        }
        let mut files = files.into_iter();
        while let Some(file) = files.next() {
            let left = files.len();
            self.numbers += 1;
            let unkept = file.size.filter(|size| !self.shared.kept.may_have(*size));
            // While it still has a few, so that it does not wait. It also rings when it has none.
            let rings = left == FEW;
            let sent = self.child.scan(self.numbers, &file.job, &file.fd, unkept, rings);
            let bytes = *sent.as_ref().unwrap_or(&0);
            self.given.push_back(Given { number: self.numbers, file, bytes });
            if let Err(text) = sent {
                self.take_back(files.collect());
                return Err(Lost { why: Why::Child, text });
            }
        }
        Ok(())
    }

    /// As many as it may have, of what waits now.
    fn give_more(&mut self) -> Result<(), Lost> {
        let bytes: usize = self.given.iter().map(|given| given.bytes).sum();
        let room = CHILD_FILES_AT_ONCE.min(usize::try_from(CHILD_FILES_MAX.saturating_sub(self.child.files)).unwrap_or(0));
        let is_slow = !self.given.is_empty() && self.child.now().saturating_sub(self.began) >= SLOW;
        if self.forgets || is_slow || bytes >= CHILD_ASKED_BYTES {
            return Ok(());
        }
        let mut work = self.shared.work();
        let is_wanted = !work.is_over && self.number < work.wanted;
        if !is_wanted || work.set.as_ref().is_none_or(|set| set.generation != self.child.generation) {
            return Ok(());
        }
        let files = work.share(room.saturating_sub(self.given.len()));
        drop(work);
        self.give(files)
    }

    /// Waits for answers, takes them, and looks at the time.
    fn wait(&mut self) -> Result<(), Lost> {
        let died = |text| Lost { why: Why::Child, text };
        let glance = if self.given.len() > 1 { GLANCE } else { LOOK };
        let until = (self.child.now() + glance).min(self.deadline);
        self.child.wait(until).map_err(died)?;
        let mut is_silent = true;
        while let Some(tell) = self.child.said().map_err(died)? {
            self.hear(tell)?;
            is_silent = false;
        }
        let now = self.child.now();
        if !is_silent || now < until {
            return Ok(());
        }
        if self.shared.work().is_over {
            return Err(closed());
        }
        if now >= self.deadline {
            let text = format!("the scan child was killed after {} s", (now - self.began) / SECOND);
            return Err(Lost { why: Why::Timeout, text });
        }
        if now.saturating_sub(self.began) >= SLOW && self.given.len() > 1 && !self.forgets {
            self.forgets = true;
            self.child.forget().map_err(died)?;
            let behind = self.given.drain(1..).map(|given| given.file).collect();
            self.take_back(behind);
        }
        Ok(())
    }

    fn hear(&mut self, tell: Tell) -> Result<(), Lost> {
        let died = |text| Lost { why: Why::Child, text };
        match tell {
            Tell::Hashed { sha256, size, rules_version } => {
                let outcome = self.shared.kept.get(&sha256, size, &rules_version);
                self.child.tell_kept(outcome).map_err(died)
            }
            // All members together have three times as long as a file.
            Tell::Unpacking => {
                self.deadline = self.began + (3 * self.shared.limits.timeout_s + CHILD_GRACE_S) * SECOND;
                Ok(())
            }
            Tell::Answer { number, answer } => {
                self.begin();
                // It may have begun a file that was taken back meanwhile: that answer is nobody's.
                if let Some(given) = self.given.pop_front_if(|given| given.number == number) {
                    self.answers.push((given.file, answered(answer)));
                }
                Ok(())
            }
            Tell::Forgot => {
                self.forgets = false;
                Ok(())
            }
            Tell::Compiled { .. } | Tell::Loaded { .. } => Err(died("the scan child answered something else".into())),
        }
    }

    /// The child is of no use: its file is given back to who asked, and what it had not begun goes to other children.
    fn lose(mut self, lost: Lost) {
        // What it answered before it was lost counts: it was at another file.
        while let Ok(Some(tell @ Tell::Answer { .. })) = self.child.said() {
            let _ = self.hear(tell);
        }
        let first = self.given.pop_front();
        if lost.why != Why::Closed {
            self.shared.deaths.fetch_add(1, Ordering::Relaxed);
            let task = first.as_ref().map_or("", |given| &given.file.job.task_id);
            let (number, pid, why) = (self.number, self.child.pid(), &lost.text);
            tracing::warn!(number, pid, task, why, "a scan child was lost; it is replaced, its file is given back");
        }
        let behind = std::mem::take(&mut self.given).into_iter().map(|given| given.file).collect();
        self.take_back(behind);
        self.hand_on();
        drop(self.child);
        self.shared.keep_pid(self.number, None);
        if let Some(first) = first {
            first.file.promise.keep(Err(lost));
        }
    }

    /// Files that no child has begun wait again, before all others.
    fn take_back(&self, files: VecDeque<Waiting>) {
        if files.is_empty() {
            return;
        }
        let mut work = self.shared.work();
        if work.is_over {
            drop(work);
            files.into_iter().for_each(|file| file.promise.keep(Err(closed())));
            return;
        }
        for file in files.into_iter().rev() {
            work.jobs.push_front(file);
        }
        drop(work);
        self.shared.changed.notify_all();
    }
}

fn answered(answer: Answered) -> Result<Outcome, Lost> {
    match answer {
        Answered::Done(outcome) => Ok(*outcome),
        Answered::Changed => Err(Lost { why: Why::Changed, text: "the file changed while it was read".into() }),
        Answered::Unread(error) => Err(Lost { why: Why::Io, text: format!("the file cannot be read: {error}") }),
    }
}
