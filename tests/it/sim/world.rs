//! The world around the agent: a Wazuh manager that writes, rotates, crashes and compresses, and
//! an administrator who cuts files.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use shipper::{
    clock::Nanos,
    io::{
        Executor,
        sim::{Chance, Files, Machine},
    },
    synth::{
        Mix, Synth,
        writer::{Fault, Op, Rotation, Writer, dated},
    },
};

/// Where the manager writes.
pub const ALERTS: &str = "/var/ossec/logs/alerts";
/// What another program writes.
pub const APP: &str = "/var/log/app.log";

/// What may happen, in thousandths for each line or turn.
#[derive(Clone, Debug)]
pub struct Habits {
    pub lines: u32,
    pub mix: Mix,
    pub faults: u32,
    pub big_lines: u32,
    pub parts: u32,
    pub restarts: u32,
    pub cuts: u32,
    /// A line beyond the limit.
    pub huge_lines: u32,
    pub pause_ms: u64,
    /// Lines of the other program; 0: there is none.
    pub app_lines: u32,
    /// Its file is copied and cut instead of renamed.
    pub copytruncate: bool,
}

/// One file that an agent reads: what it is called and what it was before it was cut.
#[derive(Clone, Debug, Default)]
pub struct Dated {
    /// `2026-03-14/000`; empty for the other program's, whose numbers are the agent's choice.
    pub segment: String,
    /// Contents that it had before it was cut or lost bytes.
    pub before: Vec<Vec<u8>>,
    /// True if its bytes may have gone before anybody could read them.
    pub excused: bool,
    /// Offsets at which it was cut back.
    pub cuts: Vec<usize>,
    /// Monotonic nanoseconds.
    pub made: Nanos,
    /// In which life of the agent it lost its last name.
    pub unlinked_in: Option<u32>,
}

pub struct World {
    pub machine: Machine,
    pub files: Files,
    pub habits: Habits,
    pub dated: BTreeMap<usize, Dated>,
    /// The agent's present life.
    pub life: u32,
    /// Programs that have fallen silent.
    pub done: u32,
    pub verbose: bool,
    chance: Chance,
    writer: Writer,
    synth: Synth,
    date: jiff::civil::Date,
    compress: Option<(Nanos, PathBuf)>,
    /// Starts of the manager: what one had still to do dies with it.
    starts: u32,
}

pub type Shared = Rc<RefCell<World>>;

/// The local date of a moment, in the zone that the agent goes by.
pub fn date_of(now: Nanos) -> jiff::civil::Date {
    let now = jiff::Timestamp::from_nanosecond(i128::from(now)).unwrap();
    jiff::tz::TimeZone::system().to_datetime(now).date()
}

impl World {
    pub fn new(machine: &Machine, files: &Files, habits: Habits, seed: u64) -> Self {
        let date = date_of(machine.clock().now());
        Self {
            machine: machine.clone(),
            files: files.clone(),
            synth: Synth::new(seed, habits.mix),
            habits,
            dated: BTreeMap::new(),
            life: 0,
            done: 0,
            verbose: false,
            chance: machine.chance(),
            writer: Writer::new(ALERTS, date),
            date,
            compress: None,
            starts: 0,
        }
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        let text = text();
        if self.verbose {
            eprintln!("{:>10.6} {text}", self.machine.clock().mono() as f64 / 1e9);
        }
        self.machine.note(|| format!("world: {text}"));
    }

    /// What a dated file is called in addresses; `None` for other names.
    fn segment_of(path: &Path) -> Option<String> {
        let name = path.file_name()?.to_str()?.strip_prefix("ossec-alerts-")?.strip_suffix(".json")?;
        let (day, part) = name.split_once('-').unwrap_or((name, "0"));
        let month = path.parent()?.file_name()?.to_str()?;
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let month = months.iter().position(|known| *known == month)? + 1;
        let year = path.parent()?.parent()?.file_name()?.to_str()?;
        Some(format!("{year}-{month:02}-{day}/{:03}", part.parse::<u32>().ok()?))
    }

    /// Makes one operation.
    fn apply(&mut self, op: Op) {
        match op {
            Op::MakeDir(path) => self.files.make_dir(&path),
            Op::Create(path) => {
                self.files.create(&path);
                let file = self.files.identity(&path).unwrap();
                if let Some(segment) = Self::segment_of(&path) {
                    let made = self.machine.clock().mono();
                    self.dated.entry(file).or_insert_with(|| Dated { segment, made, ..Dated::default() });
                }
            }
            Op::Append { path, bytes } => {
                let at = self.files.content(&path).map_or(0, |bytes| bytes.len());
                self.say(|| format!("append {} bytes at {at} to {}", bytes.len(), path.display()));
                self.files.append(&path, &bytes).unwrap();
            }
            Op::Unlink(path) => self.unlink(&path),
            Op::Link { from, to } => {
                self.say(|| format!("link {} as {}", from.display(), to.display()));
                self.files.link(&from, &to).unwrap();
            }
            Op::Truncate { path, len } => self.cut(&path, usize::try_from(len).unwrap()),
        }
    }

    fn unlink(&mut self, path: &Path) {
        let file = self.files.identity(path);
        self.say(|| format!("unlink {}", path.display()));
        self.files.unlink(path);
        if let Some(file) = file.filter(|file| !self.files.is_named(*file)) {
            let (lost, life) = (self.files.is_lost(file), self.life);
            let dated = self.dated.entry(file).or_default();
            dated.unlinked_in = Some(life);
            dated.excused |= lost;
        }
    }

    fn cut(&mut self, path: &Path, len: usize) {
        self.say(|| format!("cut {} to {len}", path.display()));
        let file = self.files.identity(path).unwrap();
        let content = self.files.content_of(file);
        let dated = self.dated.entry(file).or_default();
        dated.before.push(content);
        dated.cuts.push(len);
        self.files.truncate(path, len as u64).unwrap();
    }

    /// The power went: what became of the files is known, the manager starts again later.
    pub fn lose_power(&mut self) {
        let before: BTreeMap<usize, Vec<u8>> = self.dated.keys().map(|file| (*file, self.files.content_of(*file))).collect();
        for (file, same, len) in self.files.lose_power() {
            if let (Some(dated), Some(content)) = (self.dated.get_mut(&file), before.get(&file)) {
                dated.before.push(content.clone());
                dated.cuts.extend([same, len]);
                let text = format!("power loss: {} had {} bytes, {same} are left of {len}", dated.segment, content.len());
                self.say(|| text);
            }
        }
        self.restart();
    }

    fn restart(&mut self) {
        self.starts += 1;
        let lost = self.writer.crash().len();
        self.say(|| format!("the manager restarts, {lost} bytes were never written"));
        for op in self.writer.open() {
            self.apply(op);
        }
    }

    fn begin_app(&mut self, path: &Path) {
        self.files.create(path);
        let (file, made) = (self.files.identity(path).unwrap(), self.machine.clock().mono());
        self.dated.entry(file).or_insert_with(|| Dated { made, ..Dated::default() });
    }

    fn append_app(&mut self, path: &Path, bytes: &[u8]) {
        self.say(|| format!("append {} bytes to {}", bytes.len(), path.display()));
        // The power loss may have taken the name with it.
        self.begin_app(path);
        self.files.append(path, bytes).unwrap();
    }

    fn rename_app(&mut self, path: &Path) {
        let (one, two) = (path.with_extension("log.1"), path.with_extension("log.2"));
        self.unlink(&two);
        if self.files.identity(&one).is_some() {
            self.files.rename(&one, &two).unwrap();
        }
        self.say(|| format!("rename {} to {}", path.display(), one.display()));
        let file = self.files.identity(path).unwrap();
        // Only the file under the name is looked for: one that came and went unseen is not found.
        let seen = self.files.open_for(file).is_some_and(|span| span > 100_000_000);
        self.dated.get_mut(&file).unwrap().excused |= !seen;
        self.files.rename(path, &one).unwrap();
    }

    /// A first run begins with the file under the name, not with those that were before.
    pub fn excuse_old_app(&mut self) {
        let current = self.files.identity(Path::new(APP));
        for (file, dated) in self.dated.iter_mut().filter(|(_, dated)| dated.segment.is_empty()) {
            dated.excused |= Some(*file) != current;
        }
    }

    /// True once every program has fallen silent.
    pub fn is_done(&self) -> bool {
        self.done == 1 + u32::from(self.habits.app_lines > 0)
    }

    fn line(&mut self) -> Vec<Op> {
        let mut line = Vec::new();
        self.synth.alert(&mut line, self.machine.clock().now(), 60);
        let is_huge = self.chance.of_thousand(self.habits.huge_lines);
        if is_huge || self.chance.of_thousand(self.habits.big_lines) {
            let len = if is_huge { 4_100_000 + self.chance.index(1_000_000) } else { 200_000 + self.chance.index(500_000) };
            let filler = "x".repeat(len);
            let end = line.len() - 2;
            line.splice(end..end, format!(",\"filler\":\"{filler}\"").into_bytes());
        }
        if self.chance.of_thousand(self.habits.faults) {
            let fault = match self.chance.below(3) {
                0 => Fault::Cut,
                1 => Fault::Glued,
                _ => Fault::Nuls(1 + u32::try_from(self.chance.below(5000)).unwrap()),
            };
            self.say(|| format!("fault {fault:?}"));
            return self.writer.write_faulty(&line, fault, self.chance.any());
        }
        self.writer.write(&line)
    }
}

/// The manager's life, as a task.
pub async fn live(world: Shared) {
    let machine = world.borrow().machine.clone();
    let ops = world.borrow_mut().writer.open();
    execute(&world, ops).await;
    let mut left = world.borrow().habits.lines;
    while left > 0 {
        let some = {
            let mut world = world.borrow_mut();
            let most = u64::from(left.min(40));
            u32::try_from(1 + world.chance.below(most)).unwrap()
        };
        for _ in 0..some {
            let ops = world.borrow_mut().line();
            execute(&world, ops).await;
        }
        left -= some;
        let pause = {
            let mut world = world.borrow_mut();
            let most = world.habits.pause_ms * 1_000_000;
            world.chance.below(most)
        };
        machine.sleep(Duration::from_nanos(pause)).await;
        chores(&world).await;
    }
    machine.sleep(Duration::from_secs(2)).await;
    let ops = world.borrow_mut().writer.flush();
    execute(&world, ops).await;
    world.borrow_mut().done += 1;
}

/// Another program's life: whole and half lines, and a logrotate that renames or copies.
pub async fn live_beside(world: Shared) {
    let machine = world.borrow().machine.clone();
    let path = PathBuf::from(APP);
    world.borrow_mut().begin_app(&path);
    let lines = world.borrow().habits.app_lines;
    let mut rest = Vec::new();
    for n in 0..lines {
        let mut bytes = std::mem::take(&mut rest);
        {
            let mut world = world.borrow_mut();
            let filler = "y".repeat(world.chance.index(400));
            bytes.extend_from_slice(format!("{{\"n\":{n},\"text\":\"{filler}\"}}\n").as_bytes());
            if world.chance.of_thousand(300) {
                let at = world.chance.index(bytes.len());
                rest = bytes.split_off(at);
            }
            world.append_app(&path, &bytes);
        }
        let (pause, rotates) = {
            let mut world = world.borrow_mut();
            let most = if world.chance.of_thousand(200) { 3_000_000_000 } else { 10_000_000 };
            (world.chance.below(most), world.chance.of_thousand(15))
        };
        machine.sleep(Duration::from_nanos(pause)).await;
        if rotates {
            world.borrow_mut().append_app(&path, &std::mem::take(&mut rest));
            // A program that is told to open its log anew does so a moment later.
            if world.borrow().habits.copytruncate {
                world.borrow_mut().cut(&path, 0);
            } else {
                world.borrow_mut().rename_app(&path);
                let late = world.borrow_mut().chance.below(2_000_000_000);
                machine.sleep(Duration::from_nanos(late)).await;
                world.borrow_mut().begin_app(&path);
            }
        }
    }
    world.borrow_mut().append_app(&path, &rest);
    world.borrow_mut().done += 1;
}

/// Operations one after the other, with a moment between them now and then.
async fn execute(world: &Shared, ops: Vec<Op>) {
    let (machine, starts) = (world.borrow().machine.clone(), world.borrow().starts);
    for op in ops {
        if world.borrow().starts != starts {
            return;
        }
        world.borrow_mut().apply(op);
        let late = {
            let mut world = world.borrow_mut();
            if world.chance.of_thousand(300) { world.chance.below(5_000_000) } else { 0 }
        };
        if late > 0 {
            machine.sleep(Duration::from_nanos(late)).await;
        }
    }
}

async fn chores(world: &Shared) {
    let now = world.borrow().machine.clock().now();
    let ops = world.borrow_mut().writer.tick(now);
    execute(world, ops).await;
    let today = date_of(now);
    if today != world.borrow().date {
        let old = {
            let mut world = world.borrow_mut();
            world.say(|| format!("midnight: {today}"));
            std::mem::replace(&mut world.date, today)
        };
        let ops = world.borrow_mut().writer.rotate(Rotation::Day(today));
        execute(world, ops).await;
        world.borrow_mut().compress = Some((now + 10_000_000_000, dated(Path::new(ALERTS), old, 0)));
    }
    let due = {
        let mut world = world.borrow_mut();
        world.compress.take_if(|(at, _)| now >= *at)
    };
    if let Some((_, path)) = due {
        // The compressor takes the plain file away, whatever became of its copy.
        let mut world = world.borrow_mut();
        world.unlink(&path);
    }
    let dice = |of: fn(&Habits) -> u32| {
        let mut world = world.borrow_mut();
        let times = of(&world.habits);
        world.chance.of_thousand(times)
    };
    if dice(|habits| habits.parts) {
        let ops = world.borrow_mut().writer.rotate(Rotation::Part);
        execute(world, ops).await;
    }
    if dice(|habits| habits.restarts) {
        world.borrow_mut().restart();
    }
    if dice(|habits| habits.cuts) {
        let path = world.borrow().writer.path().to_owned();
        world.borrow_mut().cut(&path, 0);
    }
    if dice(|_| 200) {
        let world = world.borrow();
        for path in world.files.names(Path::new(ALERTS)) {
            world.files.write_back(&path);
        }
    }
}
