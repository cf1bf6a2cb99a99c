//! A list of numbered slots that reuses freed numbers; comparable and hashable, for the search.

/// Values by key. A key is free for reuse once its value was removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// The slot that was freed last; the others follow from there.
    free: Option<usize>,
    used: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Slot<T> {
    Used(T),
    Free { next: Option<usize> },
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
            slots: Vec::new(),
            free: None,
            used: 0,
        }
    }

    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> usize {
        self.used += 1;
        let Some(key) = self.free else {
            self.slots.push(Slot::Used(value));
            return self.slots.len() - 1;
        };
        match std::mem::replace(&mut self.slots[key], Slot::Used(value)) {
            Slot::Free { next } => self.free = next,
            Slot::Used(_) => panic!("bug: a slot that is in use is on the list of free ones"),
        }
        key
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: usize) -> T {
        let free = Slot::Free { next: self.free };
        match std::mem::replace(&mut self.slots[key], free) {
            Slot::Used(value) => {
                self.free = Some(key);
                self.used -= 1;
                value
            }
            Slot::Free { .. } => panic!("bug: no value at this key"),
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: usize) -> &T {
        self.slots[key].value().expect("bug: no value at this key")
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: usize) -> &mut T {
        self.slots[key]
            .value_mut()
            .expect("bug: no value at this key")
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = usize> {
        self.entries().map(|(key, _)| key)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(Slot::value_mut)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(key, slot)| Some((key, slot.value()?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(Slot::value)
    }
}
