//! Passes everything on: the `noop` toxic, and what is left of a toxic that was removed.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{Cut, Item, Machine};
use crate::toxic::Toxic;

#[derive(Debug, Default)]
pub(super) struct Pass {
    queue: VecDeque<Item>,
}

impl Pass {
    pub(super) fn holding(queue: VecDeque<Item>) -> Self {
        Self { queue }
    }
}

impl Machine for Pass {
    fn has_room(&self) -> bool {
        self.queue.is_empty()
    }

    fn push(&mut self, item: Item, _now: Instant) {
        self.queue.push_back(item);
    }

    fn pop(&mut self, _now: Instant) -> Option<Item> {
        self.queue.pop_front()
    }

    fn wake_at(&self) -> Option<Instant> {
        None
    }

    fn configure(&mut self, _toxic: Toxic, _now: Instant) {}

    fn remove(self: Box<Self>) -> Result<VecDeque<Item>, Cut> {
        Ok(self.queue)
    }
}
