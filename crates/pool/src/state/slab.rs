//! A list of numbered slots that reuses freed numbers; comparable and hashable, for the search.

/// Values by key. A key is free for reuse once its value was removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        if let Some(key) = self.free.pop() {
            self.slots[key] = Some(value);
            key
        } else {
            self.slots.push(Some(value));
            self.slots.len() - 1
        }
    }

    pub(crate) fn remove(&mut self, key: usize) -> T {
        let value = self.slots[key].take().expect("bug: no value at this key");
        self.free.push(key);
        value
    }

    pub(crate) fn get(&self, key: usize) -> &T {
        self.slots[key].as_ref().expect("bug: no value at this key")
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> &mut T {
        self.slots[key].as_mut().expect("bug: no value at this key")
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = usize> {
        (0..self.slots.len()).filter(|key| self.slots[*key].is_some())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(key, slot)| Some((key, slot.as_ref()?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}
