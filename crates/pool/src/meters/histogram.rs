//! Durations in fixed buckets, recorded without lock or allocation.
//!
//! The first few threads write each to a shard of its own: they do not pull the same cache line back and
//! forth, and need no atomic addition. All others share one.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The upper bounds of the buckets in nanoseconds; one more bucket takes what is above all of them.
const BOUNDS: [u64; 21] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// One for each thread that has a shard to itself, and the last for all others.
const SHARDS: usize = 9;

/// What is longer counts as this, a year and less than a second more, so that no sum overflows.
const LONGEST: u64 = 365 * 86_400 * NANOS_PER_SEC;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A histogram that threads write to.
#[derive(Debug)]
pub(crate) struct Histogram {
    shards: Box<[Shard; SHARDS]>,
}

/// Aligned so that no two share a cache line, nor a pair of lines that is fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    buckets: [Bucket; BUCKETS],
}

#[derive(Debug, Default)]
struct Bucket {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            shards: Box::default(),
        }
    }

    /// Records one duration.
    pub(crate) fn record(&self, took: Duration) {
        let secs = took.as_secs().min(LONGEST / NANOS_PER_SEC);
        let nanos = secs * NANOS_PER_SEC + u64::from(took.subsec_nanos());
        self.add(bucket_of(nanos), nanos);
    }

    /// Records that something took no time.
    #[inline]
    pub(crate) fn record_none(&self) {
        self.add(0, 0);
    }

    #[inline]
    fn add(&self, bucket: usize, nanos: u64) {
        let shard = shard();
        let bucket = &self.shards[shard].buckets[bucket];
        if shard == SHARED {
            bucket.count.fetch_add(1, Ordering::Relaxed);
            bucket.nanos.fetch_add(nanos, Ordering::Relaxed);
        } else {
            // Nobody else writes here, so that it need not be one step.
            add(&bucket.count, 1);
            add(&bucket.nanos, nanos);
        }
    }

    /// Returns what was recorded so far. A duration that is recorded at this moment may be counted and
    /// not yet be part of the sum.
    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::default();
        for shard in self.shards.iter() {
            for (sum, bucket) in snapshot.buckets.iter_mut().zip(&shard.buckets) {
                sum.count += bucket.count.load(Ordering::Relaxed);
                sum.nanos += bucket.nanos.load(Ordering::Relaxed);
            }
        }
        snapshot
    }
}

/// Where the search for a bucket begins, by the number of bits of a duration: that of the shortest one with as
/// many. From there it is at most one step, as no two bounds have equally many bits but for a few.
const FIRST: [usize; 65] = {
    let mut first = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let shortest = 1_u64 << (bits - 1);
        let mut bucket = 0;
        while bucket < BOUNDS.len() && BOUNDS[bucket] < shortest {
            bucket += 1;
        }
        first[bits] = bucket;
        bits += 1;
    }
    first
};

fn bucket_of(nanos: u64) -> usize {
    let bits = u64::BITS - nanos.leading_zeros();
    let mut bucket = FIRST[bits as usize];
    while bucket < BOUNDS.len() && BOUNDS[bucket] < nanos {
        bucket += 1;
    }
    bucket
}

fn add(to: &AtomicU64, more: u64) {
    to.store(
        to.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

/// The shard of those who have none to themselves.
const SHARED: usize = SHARDS - 1;

/// The shards that no living thread has, of all histograms alike. The lock orders what the next owner of a
/// shard writes after what its last one wrote.
static FREE: Mutex<[bool; SHARED]> = Mutex::new([true; SHARED]);

/// A thread's own shard, until the thread ends.
struct Own(usize);

impl Own {
    fn claim() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let own = free.iter().position(|free| *free).unwrap_or(SHARED);
        if let Some(free) = free.get_mut(own) {
            *free = false;
        }
        Self(own)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // What is recorded after this must not meet the next owner.
        let _ = MINE.try_with(|mine| mine.set(SHARED));
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = free.get_mut(self.0) {
            *free = true;
        }
    }
}

/// Not chosen yet.
const UNKNOWN: usize = usize::MAX;

thread_local! {
    static OWN: Own = Own::claim();
    /// The number in `OWN`: to read it costs less than to find out whether `OWN` is still there.
    static MINE: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// Returns this thread's shard.
fn shard() -> usize {
    let mine = MINE.get();
    if mine == UNKNOWN { choose() } else { mine }
}

#[cold]
fn choose() -> usize {
    // A thread that is ending has none any more.
    let mine = OWN.try_with(|own| own.0).unwrap_or(SHARED);
    MINE.set(mine);
    mine
}

/// Durations in fixed buckets, from 10 µs to 60 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistogramSnapshot {
    buckets: [BucketSum; BUCKETS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct BucketSum {
    count: u64,
    nanos: u64,
}

impl HistogramSnapshot {
    /// Returns how many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Returns the sum of all durations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.buckets.iter().map(|bucket| bucket.nanos).sum())
    }

    /// Returns each bucket's upper bound, which is part of it, and how many durations were up to that
    /// bound. What was longer than the last bound is in [`HistogramSnapshot::count`] only.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let counts = self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket.count;
            Some(*sum)
        });
        BOUNDS.into_iter().map(Duration::from_nanos).zip(counts)
    }

    /// Returns, for each bucket that grew since `earlier`, by how many durations and their mean. For
    /// whoever tells somebody else what was recorded since the last time.
    pub fn grown_since<'a>(
        &'a self,
        earlier: &'a Self,
    ) -> impl Iterator<Item = (u64, Duration)> + 'a {
        self.buckets
            .iter()
            .zip(&earlier.buckets)
            .filter_map(|(now, then)| {
                let count = now
                    .count
                    .checked_sub(then.count)
                    .filter(|count| *count > 0)?;
                let nanos = now.nanos.saturating_sub(then.nanos);
                Some((count, Duration::from_nanos(nanos / count)))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new();
        let bound = Duration::from_nanos(BOUNDS[6]);
        for took in [
            Duration::ZERO,
            Duration::from_nanos(BOUNDS[0]),
            bound,
            bound + Duration::from_nanos(1),
            Duration::from_secs(61),
            Duration::MAX,
        ] {
            histogram.record(took);
        }
        let snapshot = histogram.snapshot();
        let counts: Vec<u64> = snapshot.buckets.iter().map(|bucket| bucket.count).collect();
        let mut expected = [0; BUCKETS];
        expected[0] = 2;
        expected[6] = 1;
        expected[7] = 1;
        expected[BUCKETS - 1] = 2;
        assert_eq!(counts, expected);
        assert_eq!(snapshot.count(), 6);
        assert!(snapshot.sum() > Duration::from_nanos(LONGEST));
        let cumulative: Vec<u64> = snapshot.cumulative().map(|(_, count)| count).collect();
        assert_eq!(cumulative[..8], [2, 2, 2, 2, 2, 2, 3, 4]);
        assert_eq!(
            cumulative.last(),
            Some(&4),
            "the longest are beyond all bounds"
        );
    }

    #[test]
    fn what_took_no_time_counts_as_a_duration_of_zero() {
        let (none, zero) = (Histogram::new(), Histogram::new());
        none.record_none();
        zero.record(Duration::ZERO);
        assert_eq!(none.snapshot(), zero.snapshot());
    }

    #[test]
    fn the_bucket_is_the_first_whose_bound_is_not_below() {
        let around = BOUNDS
            .iter()
            .flat_map(|bound| [bound - 1, *bound, bound + 1]);
        let powers = (0..64).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for nanos in around.chain(powers).chain([0, u64::MAX]) {
            let searched = BOUNDS.partition_point(|bound| *bound < nanos);
            assert_eq!(bucket_of(nanos), searched, "{nanos}");
        }
    }

    #[test]
    fn bounds_rise() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_threads_record_at_the_same_time_adds_up_and_few_threads_share() {
        let histogram = Histogram::new();
        let together = Barrier::new(2 * SHARDS);
        let mut shards: Vec<usize> = std::thread::scope(|threads| {
            let record = || {
                together.wait();
                for _ in 0..1_000 {
                    histogram.record(Duration::from_micros(3));
                }
                let mine = shard();
                together.wait();
                mine
            };
            let running: Vec<_> = (0..2 * SHARDS).map(|_| threads.spawn(record)).collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 18_000);
        assert_eq!(snapshot.sum(), Duration::from_micros(54_000));
        shards.retain(|shard| *shard != SHARED);
        let owned = shards.len();
        shards.sort_unstable();
        shards.dedup();
        assert_eq!(shards.len(), owned, "two threads own the same shard");
    }

    #[test]
    fn a_thread_that_ends_leaves_its_shard_to_the_next() {
        for _ in 0..3 * SHARDS {
            std::thread::spawn(shard).join().unwrap();
        }
        // Not all of them can be owned by the test's other threads for ever.
        let own = (0..10_000).any(|_| std::thread::spawn(shard).join().unwrap() != SHARED);
        assert!(own, "the shards of ended threads are lost");
    }

    #[test]
    fn growth_has_counts_and_means_per_bucket() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_millis(2));
        let earlier = histogram.snapshot();
        histogram.record(Duration::from_micros(1_100));
        histogram.record(Duration::from_micros(1_300));
        histogram.record(Duration::from_secs(2));
        let now = histogram.snapshot();
        let grown: Vec<_> = now.grown_since(&earlier).collect();
        assert_eq!(
            grown,
            [
                (2, Duration::from_micros(1_200)),
                (1, Duration::from_secs(2))
            ]
        );
        assert_eq!(now.grown_since(&now).count(), 0);
    }
}
