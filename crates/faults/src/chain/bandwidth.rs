//! `bandwidth`: bytes leave at a rate, in pieces of at most 100 ms; rate 0 stalls them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Chunk, Cut, Item, Machine};
use crate::tally::{Held, Tally, count};
use crate::toxic::Toxic;

/// The longest piece, in milliseconds of the rate. A kilobyte per second is a byte per millisecond.
const PIECE_MS: u32 = 100;

/// Holds one chunk; what comes after it waits in the kernel's buffers, where senders feel it.
pub(super) struct Bandwidth {
    rate_kb_s: u32,
    current: Option<Item>,
    /// When the first byte of `current` may start to leave: the line is busy until then.
    free_at: Instant,
    held: Held,
}

impl Bandwidth {
    pub(super) fn new(rate_kb_s: u32, tally: &Arc<Tally>, now: Instant) -> Self {
        Self {
            rate_kb_s,
            current: None,
            free_at: now,
            held: Held::none(tally),
        }
    }

    /// The length of the next piece and when it is through, unless the line is stalled.
    fn next_piece(&self) -> Option<(usize, Instant)> {
        let Some(Item::Data(chunk)) = &self.current else {
            return None;
        };
        if self.rate_kb_s == 0 {
            return None;
        }
        let piece_max = u64::from(self.rate_kb_s) * u64::from(PIECE_MS);
        let len =
            usize::try_from(piece_max).map_or(chunk.data.len(), |max| max.min(chunk.data.len()));
        let nanos = count(len) * 1_000_000 / u64::from(self.rate_kb_s);
        Some((len, self.free_at + Duration::from_nanos(nanos)))
    }
}

impl Machine for Bandwidth {
    fn has_room(&self) -> bool {
        self.current.is_none()
    }

    fn push(&mut self, item: Item, now: Instant) {
        if let Item::Data(chunk) = &item {
            self.held.take(chunk.data.len());
            self.free_at = self.free_at.max(now);
        }
        self.current = Some(item);
    }

    fn pop(&mut self, now: Instant) -> Option<Item> {
        if let Some(Item::End(_)) = &self.current {
            return self.current.take();
        }
        let (len, due) = self.next_piece()?;
        if due > now {
            return None;
        }
        let Some(Item::Data(chunk)) = &mut self.current else {
            return None;
        };
        let data = chunk.data.split_to(len);
        if chunk.data.is_empty() {
            self.current = None;
        }
        self.free_at = due;
        self.held.release(len);
        Some(Item::Data(Chunk { data, at: due }))
    }

    fn wake_at(&self) -> Option<Instant> {
        self.next_piece().map(|(_, due)| due)
    }

    fn configure(&mut self, toxic: Toxic, now: Instant) {
        let Toxic::Bandwidth { rate_kb_s } = toxic else {
            panic!("bug: a bandwidth toxic became {}", toxic.kind());
        };
        if rate_kb_s != self.rate_kb_s {
            self.rate_kb_s = rate_kb_s;
            // Time spent under the old rate, or stalled, earns nothing under the new one.
            self.free_at = self.free_at.max(now);
        }
    }

    fn remove(self: Box<Self>) -> Result<VecDeque<Item>, Cut> {
        Ok(self.current.into_iter().collect())
    }
}
