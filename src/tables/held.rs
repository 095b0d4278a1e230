//! Tables in use: read often, swapped whole, never changed in place.
//!
//! A [`Held`] is the place of one table; whoever asks it often has a [`Reader`], which costs one
//! load of a number while nothing was swapped. A [`Shelf`] has the places of all tables of an
//! agent by name; what fills them is no business of this module.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The place of one table; empty until one is put in.
pub struct Held<T> {
    /// Counts what was put in.
    version: AtomicU64,
    now: Mutex<Option<Arc<T>>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { version: AtomicU64::new(0), now: Mutex::new(None) }
    }
}

impl<T> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.version.load(Ordering::Relaxed))
    }
}

impl<T> Held<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table that is in use now.
    pub fn get(&self) -> Option<Arc<T>> {
        self.lock().clone()
    }

    /// Puts another table in place of the one before, which goes when its last reader has moved on.
    pub fn put(&self, table: Arc<T>) {
        let before = {
            let mut now = self.lock();
            // Under the lock, so that a reader never takes an old table for a new number. Pairs with
            // the Acquire in `Reader::get`.
            self.version.fetch_add(1, Ordering::Release);
            now.replace(table)
        };
        // Megabytes are given back outside the lock.
        drop(before);
    }

    /// One who asks often.
    pub fn reader(self: &Arc<Self>) -> Reader<T> {
        Reader { of: Arc::clone(self), seen: 0, now: None }
    }
}

/// Reads a table from one thread.
#[derive(Debug)]
pub struct Reader<T> {
    of: Arc<Held<T>>,
    /// Version of `now`; 0 is the empty place.
    seen: u64,
    now: Option<Arc<T>>,
}

impl<T> Reader<T> {
    /// The table that is in use now; `None` while there is none.
    pub fn get(&mut self) -> Option<&T> {
        if self.of.version.load(Ordering::Acquire) != self.seen {
            let now = self.of.lock();
            self.seen = self.of.version.load(Ordering::Relaxed);
            self.now.clone_from(&now);
        }
        self.now.as_deref()
    }
}

/// A place of whatever type.
trait Place: Any + Send + Sync {
    fn is_filled(&self) -> bool;
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<T: Send + Sync + 'static> Place for Held<T> {
    fn is_filled(&self) -> bool {
        self.lock().is_some()
    }
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The tables of an agent, by name. One name may have places of several types: parts of one table
/// for those who need no more. Clones share the places.
#[derive(Clone, Default)]
pub struct Shelf(BTreeMap<(String, TypeId), Arc<dyn Place>>);

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys().map(|(name, _)| name)).finish()
    }
}

impl Shelf {
    /// Makes an empty place.
    pub fn place<T: Send + Sync + 'static>(&mut self, name: &str) {
        self.0.insert((name.to_owned(), TypeId::of::<T>()), Arc::new(Held::<T>::default()));
    }

    /// The place of that name and type.
    pub fn of<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<Held<T>>> {
        let place = self.0.get(&(name.to_owned(), TypeId::of::<T>()))?;
        Arc::clone(place).as_any().downcast().ok()
    }

    /// True if every place of that name has a table.
    pub fn is_filled(&self, name: &str) -> bool {
        self.0.iter().filter(|((of, _), _)| of == name).all(|(_, place)| place.is_filled())
    }

    /// Takes over the filled places of that name from another shelf; true if there are any.
    pub fn adopt(&mut self, name: &str, other: &Self) -> bool {
        let mut any = false;
        for (key, place) in self.0.iter_mut().filter(|((of, _), _)| of == name) {
            if let Some(filled) = other.0.get(key).filter(|place| place.is_filled()) {
                *place = Arc::clone(filled);
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_was_put_in_last_and_the_old_one_goes() {
        let held = Arc::new(Held::default());
        let mut reader = held.reader();
        assert_eq!((reader.get(), held.get()), (None, None));
        let first = Arc::new(1);
        held.put(first.clone());
        assert_eq!(reader.get(), Some(&1));
        held.put(Arc::new(2));
        assert_eq!(Arc::strong_count(&first), 2, "until the reader looks");
        assert_eq!((reader.get(), Arc::strong_count(&first)), (Some(&2), 1));
        assert_eq!(held.reader().get(), Some(&2), "one who comes late");
    }

    #[test]
    fn readers_on_other_threads_see_versions_that_only_rise() {
        let held = Arc::new(Held::default());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = held.reader();
                std::thread::spawn(move || {
                    let mut last = 0u64;
                    while last < 2_000 {
                        let now = reader.get().copied().unwrap_or(0);
                        assert!(now >= last, "{now} after {last}");
                        last = now;
                    }
                })
            })
            .collect();
        for n in 1..=2_000u64 {
            held.put(Arc::new(n));
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_shelf_knows_places_by_name_and_type_and_takes_over_what_is_filled() {
        let mut old = Shelf::default();
        old.place::<u32>("a");
        old.place::<String>("a");
        old.place::<u32>("b");
        assert!(old.of::<u64>("a").is_none() && old.of::<u32>("c").is_none());
        old.of::<u32>("a").unwrap().put(Arc::new(7));
        assert!(!old.is_filled("a"), "one of two");
        old.of::<String>("a").unwrap().put(Arc::new("x".into()));
        assert!(old.is_filled("a") && !old.is_filled("b"));
        let mut new = Shelf::default();
        new.place::<u32>("a");
        new.place::<u32>("b");
        assert!(new.adopt("a", &old) && !new.adopt("b", &old));
        assert_eq!(new.of::<u32>("a").unwrap().get(), Some(Arc::new(7)));
    }
}
