//! `reset_peer`: the link is reset some time after the toxic reached it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cut, Item, Machine};
use crate::tally::{Tally, add, count};
use crate::toxic::Toxic;

pub(super) struct ResetPeer {
    timeout_ms: u32,
    reached_at: Instant,
    lost: bool,
    tally: Arc<Tally>,
}

impl ResetPeer {
    pub(super) fn new(timeout_ms: u32, tally: &Arc<Tally>, now: Instant) -> Self {
        Self {
            timeout_ms,
            reached_at: now,
            lost: false,
            tally: Arc::clone(tally),
        }
    }

    fn due(&self) -> Instant {
        self.reached_at + Duration::from_millis(u64::from(self.timeout_ms))
    }
}

impl Machine for ResetPeer {
    fn has_room(&self) -> bool {
        true
    }

    fn push(&mut self, item: Item, _now: Instant) {
        self.lost = true;
        if let Item::Data(chunk) = item {
            add(&self.tally.swallowed, count(chunk.data.len()));
        }
    }

    fn pop(&mut self, _now: Instant) -> Option<Item> {
        None
    }

    fn wake_at(&self) -> Option<Instant> {
        Some(self.due())
    }

    fn cut(&self, now: Instant) -> Option<Cut> {
        (self.due() <= now).then_some(Cut::Reset)
    }

    fn configure(&mut self, toxic: Toxic, _now: Instant) {
        let Toxic::ResetPeer { timeout_ms } = toxic else {
            panic!("bug: a reset_peer toxic became {}", toxic.kind());
        };
        self.timeout_ms = timeout_ms;
    }

    /// A stream with a hole in it must not go on, so a link that lost something ends here.
    fn remove(self: Box<Self>) -> Result<VecDeque<Item>, Cut> {
        if self.lost {
            Err(Cut::Reset)
        } else {
            Ok(VecDeque::new())
        }
    }
}
