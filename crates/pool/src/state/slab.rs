//! A list of numbered slots that reuses freed numbers; comparable and hashable, for the search.

/// Values by key. A key is free for reuse once its value was removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[repr(C)] // What changes comes first.
pub(crate) struct Slab<T> {
    /// The slot that was freed last; the others follow from there.
    free: Key,
    used: u32,
    slots: Vec<Slot<T>>,
}

/// Half a word: links are most of what a waiter is.
pub(crate) type Key = u32;

/// No slot has it.
pub(crate) const NO_KEY: Key = Key::MAX;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Slot<T> {
    Used(T),
    Free { next: Key },
}

impl<T> Slot<T> {
    fn value(&self) -> Option<&T> {
        match self {
            Self::Used(value) => Some(value),
            Self::Free { .. } => None,
        }
    }

    fn value_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Used(value) => Some(value),
            Self::Free { .. } => None,
        }
    }
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            free: NO_KEY,
            used: 0,
            slots: Vec::new(),
        }
    }

    /// Puts in what `make` returns: it is made in its place, and not copied there.
    ///
    /// # Panics
    /// With 2^32 - 1 values there is no key left.
    #[inline]
    pub(crate) fn insert(&mut self, make: impl FnOnce() -> T) -> Key {
        let key = self.free;
        let Some(slot) = self.slots.get_mut(key as usize) else {
            return self.grow(make());
        };
        let Slot::Free { next } = *slot else {
            panic!("bug: a slot that is in use is on the list of free ones")
        };
        *slot = Slot::Used(make());
        self.free = next;
        self.used += 1;
        key
    }

    #[cold]
    fn grow(&mut self, value: T) -> Key {
        let key = Key::try_from(self.slots.len()).unwrap_or(NO_KEY);
        assert!(key != NO_KEY, "2^32 - 1 leases or waiters at once");
        self.slots.push(Slot::Used(value));
        self.used += 1;
        key
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: Key) -> T {
        let free = Slot::Free { next: self.free };
        match std::mem::replace(&mut self.slots[key as usize], free) {
            Slot::Used(value) => {
                self.free = key;
                self.used -= 1;
                value
            }
            Slot::Free { .. } => panic!("bug: no value at this key"),
        }
    }

    /// Removes a value that nobody wants to see.
    #[inline]
    pub(crate) fn discard(&mut self, key: Key) {
        let slot = &mut self.slots[key as usize];
        assert!(matches!(slot, Slot::Used(_)), "bug: no value at this key");
        *slot = Slot::Free { next: self.free };
        self.free = key;
        self.used -= 1;
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> &T {
        let value = self.slots[key as usize].value();
        value.expect("bug: no value at this key")
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> &mut T {
        let value = self.slots[key as usize].value_mut();
        value.expect("bug: no value at this key")
    }

    pub(crate) fn len(&self) -> usize {
        self.used as usize
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(Slot::value_mut)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (Key, &T)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(key, slot)| Some((key, slot.value()?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(Slot::value)
    }
}
