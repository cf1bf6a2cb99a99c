//! What a proxy's links and toxics have done so far, counted while it happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// What one proxy has done since it was created. Live values, each exact on its own.
///
/// Take one before a fault and one after: the difference is the effect that was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProxyStats {
    /// Connections accepted. The ordinal of a link is the value before it.
    pub connections_total: u64,
    /// Links that are open now, those that still connect to the upstream included.
    pub live_links: u64,
    /// Bytes delivered to the upstream.
    pub bytes_up: u64,
    /// Bytes delivered to the clients.
    pub bytes_down: u64,
    /// Bytes that `latency` and `bandwidth` toxics hold back now.
    pub held_now: u64,
    /// Bytes that went into a `latency` or `bandwidth` toxic, counted once for each.
    pub held_total: u64,
    /// Bytes that `timeout` and `reset_peer` toxics have swallowed.
    pub swallowed_bytes: u64,
    /// Links ended by RST to both sides, by a `reset_peer` toxic or by
    /// [`Proxies::reset_links`](crate::Proxies::reset_links).
    pub links_reset_total: u64,
    /// Links closed by a `timeout` toxic, when it fired or when it was removed.
    pub links_cut_total: u64,
    /// Links ended because the proxy was disabled, changed or deleted.
    pub links_stopped_total: u64,
    /// Links closed because the upstream could not be reached.
    pub upstream_unreachable_total: u64,
}

/// The counters behind [`ProxyStats`]. They outlive a stop and a start of the proxy.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connections: AtomicU64,
    pub(crate) live_links: AtomicU64,
    pub(crate) bytes_up: AtomicU64,
    pub(crate) bytes_down: AtomicU64,
    pub(crate) held_now: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) swallowed: AtomicU64,
    pub(crate) links_reset: AtomicU64,
    pub(crate) links_cut: AtomicU64,
    pub(crate) links_stopped: AtomicU64,
    pub(crate) upstream_unreachable: AtomicU64,
}

impl Tally {
    pub(crate) fn stats(&self) -> ProxyStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProxyStats {
            connections_total: read(&self.connections),
            live_links: read(&self.live_links),
            bytes_up: read(&self.bytes_up),
            bytes_down: read(&self.bytes_down),
            held_now: read(&self.held_now),
            held_total: read(&self.held),
            swallowed_bytes: read(&self.swallowed),
            links_reset_total: read(&self.links_reset),
            links_cut_total: read(&self.links_cut),
            links_stopped_total: read(&self.links_stopped),
            upstream_unreachable_total: read(&self.upstream_unreachable),
        }
    }
}

/// Adds to a counter that nothing else is ordered by.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// A length in bytes as a count.
pub(crate) fn count(len: usize) -> u64 {
    u64::try_from(len).expect("bug: a length does not fit 64 bits")
}

/// One link in `live_links`, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct LiveLink(Arc<Tally>);

impl LiveLink {
    pub(crate) fn count(tally: &Arc<Tally>) -> Self {
        add(&tally.live_links, 1);
        Self(Arc::clone(tally))
    }
}

impl Drop for LiveLink {
    fn drop(&mut self) {
        self.0.live_links.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes that one toxic holds back on one link; what it still holds when the link ends is let go.
#[derive(Debug)]
pub(crate) struct Held {
    tally: Arc<Tally>,
    bytes: u64,
}

impl Held {
    pub(crate) fn none(tally: &Arc<Tally>) -> Self {
        Self {
            tally: Arc::clone(tally),
            bytes: 0,
        }
    }

    pub(crate) fn take(&mut self, len: usize) {
        let len = count(len);
        self.bytes += len;
        add(&self.tally.held, len);
        add(&self.tally.held_now, len);
    }

    pub(crate) fn release(&mut self, len: usize) {
        let len = count(len);
        assert!(len <= self.bytes, "bug: more bytes released than were held");
        self.bytes -= len;
        self.tally.held_now.fetch_sub(len, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tally.held_now.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
