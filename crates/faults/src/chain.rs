//! What happens to the bytes of one direction of one link: a chain of toxics, without any I/O.
//!
//! A *chunk* is what one read brought, at most [`CHUNK_MAX`] bytes, with the time it was received.
//! Chunks and the end of the stream are *items*. They go through the *stages*, one per toxic, in
//! the order in which the toxics were added, into a slot from which the link writes.
//!
//! A stage never looks at the clock: the caller passes the time and asks when to come back, so
//! the chain can be tested with times that are made up. A stage may also ask to end the link.

mod bandwidth;
mod latency;
mod pass;
mod reset_peer;
mod timeout;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use crate::draw::{Draws, LaneKey};
use crate::tally::Tally;
use crate::toxic::{Stream, Toxic, ToxicView};

/// The largest chunk, in bytes, as in Toxiproxy.
pub(crate) const CHUNK_MAX: usize = 32 * 1024;

/// Bytes on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) data: Bytes,
    /// When it was received, or when the last toxic that delayed it let it go.
    pub(crate) at: Instant,
}

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceEnd {
    /// It finished sending; it may still receive.
    Finished,
    /// Its connection broke.
    Broken,
}

/// One thing on its way through a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Data(Chunk),
    End(SourceEnd),
}

/// What a toxic asks of the whole link; when two ask at once, the later variant wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// Close both sides.
    Close,
    /// Reset both sides.
    Reset,
}

/// A toxic as links see it.
#[derive(Debug, Clone)]
pub(crate) struct ActiveToxic {
    /// Unique within the proxy for ever: a toxic of the same name added later is another one.
    pub(crate) id: u64,
    pub(crate) view: ToxicView,
}

/// The state of one toxic on one direction of one link.
trait Machine: Send {
    /// Whether it can take another item now.
    fn has_room(&self) -> bool;

    /// Takes an item; only called while there is room.
    fn push(&mut self, item: Item, now: Instant);

    /// Gives the next item, if its time has come.
    fn pop(&mut self, now: Instant) -> Option<Item>;

    /// Returns when it will have something to do without being pushed, if ever.
    fn wake_at(&self) -> Option<Instant>;

    /// Says whether the link must end.
    fn cut(&self, _now: Instant) -> Option<Cut> {
        None
    }

    /// Takes over the attributes, changed or not. The toxic is always of this machine's type.
    fn configure(&mut self, toxic: Toxic, now: Instant);

    /// Is removed: gives back what it holds, in order, or says that the link must end.
    fn remove(self: Box<Self>) -> Result<VecDeque<Item>, Cut>;
}

struct Stage {
    id: u64,
    machine: Box<dyn Machine>,
    /// Whether the toxic is gone and only what it held is left.
    retired: bool,
}

/// The toxics of one direction of one link.
pub(crate) struct Chain {
    key: LaneKey,
    stream: Stream,
    tally: Arc<Tally>,
    stages: Vec<Stage>,
    out: Option<Bytes>,
    ended: Option<SourceEnd>,
}

impl Chain {
    pub(crate) fn new(key: LaneKey, stream: Stream, tally: Arc<Tally>) -> Self {
        Self {
            key,
            stream,
            tally,
            stages: Vec::new(),
            out: None,
            ended: None,
        }
    }

    /// Whether it can take what the next read brings.
    pub(crate) fn has_room(&self) -> bool {
        match self.stages.first() {
            Some(first) => first.machine.has_room(),
            None => self.out.is_none(),
        }
    }

    /// Takes an item from the source; only called while there is room.
    pub(crate) fn push(&mut self, item: Item, now: Instant) {
        match self.stages.first_mut() {
            Some(first) => first.machine.push(item, now),
            None => self.emit(item),
        }
    }

    /// Moves every item whose time has come, or says that the link must end.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Cut> {
        while self.move_once(now) {}
        self.stages
            .retain(|stage| !(stage.retired && stage.machine.has_room()));
        self.stages.iter().find_map(|stage| stage.machine.cut(now))
    }

    /// The bytes to write next, if any; nothing else comes out before they are consumed.
    pub(crate) fn out(&self) -> Option<&Bytes> {
        self.out.as_ref()
    }

    /// Notes that `len` bytes of [`Chain::out`] were written.
    ///
    /// # Panics
    /// When there were fewer.
    pub(crate) fn consume(&mut self, len: usize) {
        let out = self.out.as_mut().expect("bug: consumed without output");
        out.advance(len);
        if out.is_empty() {
            self.out = None;
        }
    }

    /// How the source ended, once everything before the end has been written.
    pub(crate) fn ended(&self) -> Option<SourceEnd> {
        if self.out.is_some() {
            return None;
        }
        self.ended
    }

    /// The next moment after `now` at which [`Chain::advance`] has something to do by itself.
    ///
    /// An item that is due but finds no room does not count: it moves when room is made.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.stages
            .iter()
            .filter_map(|stage| stage.machine.wake_at())
            .filter(|at| *at > now)
            .min()
    }

    /// Takes over the proxy's toxics as they are now, or says that the link must end.
    pub(crate) fn reconcile(&mut self, toxics: &[ActiveToxic], now: Instant) -> Option<Cut> {
        for stage in self.stages.iter_mut().filter(|stage| !stage.retired) {
            let current = toxics
                .iter()
                .find(|toxic| toxic.id == stage.id && self.key.hits(toxic));
            match current {
                Some(toxic) => stage.machine.configure(toxic.view.toxic, now),
                None => {
                    if let Err(cut) = stage.retire() {
                        return Some(cut);
                    }
                }
            }
        }
        for toxic in toxics {
            let known = |stage: &Stage| stage.id == toxic.id && !stage.retired;
            if toxic.view.stream == self.stream
                && self.key.hits(toxic)
                && !self.stages.iter().any(known)
            {
                let draws = self.key.draws(&toxic.view.name);
                let machine = machine(toxic.view.toxic, draws, &self.tally, now);
                self.stages.push(Stage {
                    id: toxic.id,
                    machine,
                    retired: false,
                });
            }
        }
        None
    }

    /// Moves at most one item over each border; says whether anything moved.
    fn move_once(&mut self, now: Instant) -> bool {
        let mut moved = false;
        for index in (0..self.stages.len()).rev() {
            let has_room = match self.stages.get(index + 1) {
                Some(next) => next.machine.has_room(),
                None => self.out.is_none(),
            };
            if !has_room {
                continue;
            }
            let Some(item) = self.stages[index].machine.pop(now) else {
                continue;
            };
            moved = true;
            match self.stages.get_mut(index + 1) {
                Some(next) => next.machine.push(item, now),
                None => self.emit(item),
            }
        }
        moved
    }

    fn emit(&mut self, item: Item) {
        match item {
            Item::Data(chunk) => self.out = Some(chunk.data),
            Item::End(end) => self.ended = Some(end),
        }
    }
}

impl Stage {
    /// Leaves what the machine held to flow out at once.
    fn retire(&mut self) -> Result<(), Cut> {
        let machine = std::mem::replace(&mut self.machine, Box::new(pass::Pass::default()));
        self.machine = Box::new(pass::Pass::holding(machine.remove()?));
        self.retired = true;
        Ok(())
    }
}

impl LaneKey {
    /// Decides whether a toxic works on this direction of this link; always the same answer for
    /// the same toxicity, and a higher toxicity only adds links.
    fn hits(self, toxic: &ActiveToxic) -> bool {
        self.draws(&toxic.view.name).next_unit() < toxic.view.toxicity
    }
}

fn machine(toxic: Toxic, mut draws: Draws, tally: &Arc<Tally>, now: Instant) -> Box<dyn Machine> {
    // The first draw has decided that the toxic applies; jitter must not repeat it.
    draws.next_unit();
    match toxic {
        Toxic::Latency {
            latency_ms,
            jitter_ms,
        } => Box::new(latency::Latency::new(latency_ms, jitter_ms, draws, tally)),
        Toxic::Bandwidth { rate_kb_s } => {
            Box::new(bandwidth::Bandwidth::new(rate_kb_s, tally, now))
        }
        Toxic::Timeout { timeout_ms } => Box::new(timeout::Timeout::new(timeout_ms, tally, now)),
        Toxic::ResetPeer { timeout_ms } => {
            Box::new(reset_peer::ResetPeer::new(timeout_ms, tally, now))
        }
        Toxic::Noop => Box::new(pass::Pass::default()),
    }
}

#[cfg(test)]
mod tests;
