//! `timeout`: a black hole, which closes the link after a time of silence unless that is 0.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cut, Item, Machine};
use crate::tally::{Tally, add, count};
use crate::toxic::Toxic;

pub(super) struct Timeout {
    timeout_ms: u32,
    silent_since: Instant,
    tally: Arc<Tally>,
}

impl Timeout {
    pub(super) fn new(timeout_ms: u32, tally: &Arc<Tally>, now: Instant) -> Self {
        Self {
            timeout_ms,
            silent_since: now,
            tally: Arc::clone(tally),
        }
    }
}

impl Machine for Timeout {
    fn has_room(&self) -> bool {
        true
    }

    /// The end of the stream is swallowed like the rest: the other side is not to know.
    fn push(&mut self, item: Item, now: Instant) {
        if let Item::Data(chunk) = item {
            self.silent_since = now;
            add(&self.tally.swallowed, count(chunk.data.len()));
        }
    }

    fn pop(&mut self, _now: Instant) -> Option<Item> {
        None
    }

    fn wake_at(&self) -> Option<Instant> {
        let timeout = Duration::from_millis(u64::from(self.timeout_ms));
        (self.timeout_ms > 0).then(|| self.silent_since + timeout)
    }

    fn cut(&self, now: Instant) -> Option<Cut> {
        self.wake_at()
            .is_some_and(|at| at <= now)
            .then_some(Cut::Close)
    }

    fn configure(&mut self, toxic: Toxic, _now: Instant) {
        let Toxic::Timeout { timeout_ms } = toxic else {
            panic!("bug: a timeout toxic became {}", toxic.kind());
        };
        self.timeout_ms = timeout_ms;
    }

    fn remove(self: Box<Self>) -> Result<VecDeque<Item>, Cut> {
        Err(Cut::Close)
    }
}
