//! `latency`: every chunk leaves `latency ± jitter` after it came, and none overtakes another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Chunk, Cut, Item, Machine};
use crate::draw::Draws;
use crate::tally::{Held, Tally};
use crate::toxic::Toxic;

/// Chunks that may wait at once, as in Toxiproxy; more wait in the kernel's buffers.
const CHUNKS_MAX: usize = 1024;

pub(super) struct Latency {
    latency_ms: u32,
    jitter_ms: u32,
    draws: Draws,
    queue: VecDeque<Waiting>,
    held: Held,
}

/// An item and where in the jitter it falls, from -1 to 1: a change of the attributes applies to
/// what already waits, without a new draw.
struct Waiting {
    item: Item,
    swing: f64,
}

impl Latency {
    pub(super) fn new(latency_ms: u32, jitter_ms: u32, draws: Draws, tally: &Arc<Tally>) -> Self {
        Self {
            latency_ms,
            jitter_ms,
            draws,
            queue: VecDeque::new(),
            held: Held::none(tally),
        }
    }

    /// When the oldest item may leave. The end of the stream waits only for what is before it.
    fn front_due(&self) -> Option<Instant> {
        let front = self.queue.front()?;
        match &front.item {
            Item::Data(chunk) => Some(chunk.at + self.delay(front.swing)),
            Item::End(_) => None,
        }
    }

    fn delay(&self, swing: f64) -> Duration {
        let ms = f64::from(self.latency_ms) + swing * f64::from(self.jitter_ms);
        Duration::from_secs_f64(ms.max(0.0) / 1000.0)
    }
}

impl Machine for Latency {
    fn has_room(&self) -> bool {
        self.queue.len() < CHUNKS_MAX
    }

    fn push(&mut self, item: Item, _now: Instant) {
        let mut swing = 0.0;
        if let Item::Data(chunk) = &item {
            self.held.take(chunk.data.len());
            swing = 2.0 * self.draws.next_unit() - 1.0;
        }
        self.queue.push_back(Waiting { item, swing });
    }

    fn pop(&mut self, now: Instant) -> Option<Item> {
        let due = self.front_due();
        if due.is_some_and(|due| due > now) {
            return None;
        }
        let item = match self.queue.pop_front()?.item {
            Item::Data(Chunk { data, at }) => {
                self.held.release(data.len());
                // Passed on as if it had come when it was due, so that several latencies add up.
                let at = due.unwrap_or(at);
                Item::Data(Chunk { data, at })
            }
            end @ Item::End(_) => end,
        };
        Some(item)
    }

    fn wake_at(&self) -> Option<Instant> {
        self.front_due()
    }

    fn configure(&mut self, toxic: Toxic, _now: Instant) {
        let Toxic::Latency {
            latency_ms,
            jitter_ms,
        } = toxic
        else {
            panic!("bug: a latency toxic became {}", toxic.kind());
        };
        self.latency_ms = latency_ms;
        self.jitter_ms = jitter_ms;
    }

    fn remove(self: Box<Self>) -> Result<VecDeque<Item>, Cut> {
        Ok(self.queue.into_iter().map(|waiting| waiting.item).collect())
    }
}
