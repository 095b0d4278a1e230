//! The machine keeps its own promises: one seed is one run, time passes only as it must, and a
//! power loss takes what was not synced and nothing else.

use std::{
    cell::RefCell,
    io::ErrorKind,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use super::*;
use crate::io::{Disk, Executor, Io};

fn order_of(seed: u64) -> (Vec<u32>, u64) {
    let machine = Machine::new(seed, 0);
    let order: Rc<RefCell<Vec<u32>>> = Rc::default();
    for n in 0..8 {
        let (order, on) = (order.clone(), machine.clone());
        machine.spawn(
            "counts",
            Box::pin(async move {
                for _ in 0..3 {
                    order.borrow_mut().push(n);
                    on.pause().await;
                }
            }),
        );
    }
    machine.run_for(Duration::from_secs(1));
    let order = order.borrow().clone();
    (order, machine.trace().0)
}

#[test]
fn one_seed_is_one_run_and_another_is_another() {
    assert_eq!(order_of(7), order_of(7));
    assert_ne!(order_of(7).0, order_of(8).0);
    let mut order = order_of(7).0;
    order.sort_unstable();
    assert_eq!(order, (0..8).flat_map(|n| [n; 3]).collect::<Vec<_>>(), "each task had each of its turns");
}

#[test]
fn time_goes_to_the_next_timer_and_no_further() {
    let machine = Machine::new(1, 1_000);
    let woken: Rc<RefCell<Vec<(u64, u64)>>> = Rc::default();
    for span in [3_u64, 1, 2] {
        let (woken, on) = (woken.clone(), machine.clone());
        machine.spawn(
            "sleeps",
            Box::pin(async move {
                on.sleep(Duration::from_secs(span)).await;
                woken.borrow_mut().push((span, on.clock().mono()));
            }),
        );
    }
    machine.run_for(Duration::from_secs(10));
    let woken = woken.borrow();
    assert_eq!(woken.iter().map(|(span, _)| *span).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(woken.iter().all(|(span, at)| (span * 1_000_000_000..span * 1_000_000_000 + 1_000_000).contains(at)), "{woken:?}");
    assert_eq!(machine.clock().mono(), 10_000_000_000);
    assert_eq!(machine.clock().now(), 10_000_001_000);
}

#[test]
fn a_killed_group_does_nothing_more_and_its_files_are_let_go() {
    let machine = Machine::new(1, 0);
    let files = Files::new(&machine);
    let path = PathBuf::from("/a");
    files.create(&path);
    let thread = Thread::new(&machine, 1, &files, 1);
    let held = thread.open(&path).unwrap();
    let on = machine.clone();
    thread.spawn(
        "holds",
        Box::pin(async move {
            let _held = held;
            on.sleep(Duration::from_secs(5)).await;
            unreachable!("it was killed before");
        }),
    );
    machine.run_for(Duration::from_secs(1));
    let n = files.identity(&path).unwrap();
    files.unlink(&path);
    assert!(!files.is_lost(n), "it was open");
    machine.kill(1);
    machine.run_for(Duration::from_secs(10));
    files.create(&path);
    let again = files.identity(&path).unwrap();
    assert_ne!(n, again);
    files.unlink(&path);
    assert!(files.is_lost(again), "nobody had it open");
}

#[test]
fn a_machine_that_ended_lets_go_of_what_its_tasks_held() {
    let machine = Machine::new(1, 0);
    let held = Rc::new(());
    let (kept, on) = (held.clone(), machine.clone());
    machine.spawn(
        "holds",
        Box::pin(async move {
            let _kept = kept;
            on.sleep(Duration::from_secs(5)).await;
        }),
    );
    machine.run_for(Duration::from_secs(1));
    assert_eq!(Rc::strong_count(&held), 2);
    machine.end();
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_power_loss_takes_only_what_was_not_synced() {
    let (mut shorter, mut zeros, mut whole, mut renamed) = (0, 0, 0, 0);
    for seed in 0..200 {
        let machine = Machine::new(seed, 0);
        let files = Files::new(&machine);
        let disk = SimDisk::new(&files);
        let (a, b) = (Path::new("/d/a"), Path::new("/d/b"));
        disk.write(a, b"durable").unwrap();
        disk.sync(a).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.append(a, b" and not").unwrap();
        disk.rename(a, b).unwrap();
        files.lose_power();
        let left = match (files.content(a), files.content(b)) {
            (Some(left), None) => left,
            (None, Some(left)) => {
                renamed += 1;
                left
            }
            both => panic!("a rename is whole or not at all: {both:?}"),
        };
        assert!(left.starts_with(b"durable"), "seed {seed}: {left:?}");
        whole += usize::from(left == b"durable and not");
        zeros += usize::from(left.ends_with(b"\0"));
        shorter += usize::from(left.len() < b"durable and not".len());
    }
    assert!([shorter, zeros, whole, renamed].iter().all(|count| *count > 10), "{shorter} {zeros} {whole} {renamed}");
}

#[test]
fn after_a_failed_sync_the_bytes_stay_lost() {
    let machine = Machine::new(3, 0);
    let files = Files::new(&machine);
    let (disk, path) = (SimDisk::new(&files), Path::new("/a"));
    disk.append(path, b"one").unwrap();
    disk.sync(path).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.append(path, b"two").unwrap();
    files.suffer(Trouble { errors: 1000, ..Trouble::default() });
    assert!(disk.sync(path).is_err());
    files.suffer(Trouble::default());
    disk.sync(path).unwrap();
    files.lose_power();
    assert_eq!(files.content(path).unwrap(), b"one\0\0\0", "the second sync only said that all is well");
}

#[test]
fn a_full_disk_says_so_and_a_stopped_process_calls_no_more() {
    let machine = Machine::new(3, 0);
    let files = Files::new(&machine);
    let (disk, path) = (SimDisk::new(&files), Path::new("/a"));
    files.suffer(Trouble { full: true, ..Trouble::default() });
    assert_eq!(disk.append(path, b"one").unwrap_err().kind(), ErrorKind::StorageFull);
    files.suffer(Trouble::default());
    files.stop_after(Some(2));
    let _ = disk.len(path);
    assert!(!files.is_stopped());
    assert!(disk.append(path, b"two").is_err());
    assert!(files.is_stopped());
    let before = files.content(path);
    assert!(disk.append(path, b"three").is_err());
    assert_eq!(files.content(path), before);
    files.revive();
    disk.append(path, b"four").unwrap();
}
