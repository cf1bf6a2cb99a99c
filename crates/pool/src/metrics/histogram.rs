//! Durations in fixed buckets, recorded without lock or allocation.
//!
//! Each thread writes to one of a few shards, so that threads that lend and return at the same time do
//! not pull the same cache line back and forth.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
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

const SHARDS: usize = 8;

/// What counts as no longer than this, a year, so that no sum overflows.
const LONGEST: u64 = 365 * 86_400 * 1_000_000_000;

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

    /// Records one duration. Costs two additions to atomics.
    pub(crate) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).map_or(LONGEST, |nanos| nanos.min(LONGEST));
        let bucket = &self.shards[shard()].buckets[bucket_of(nanos)];
        bucket.count.fetch_add(1, Ordering::Relaxed);
        if nanos > 0 {
            bucket.nanos.fetch_add(nanos, Ordering::Relaxed);
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

fn bucket_of(nanos: u64) -> usize {
    BOUNDS.partition_point(|bound| *bound < nanos)
}

/// Returns this thread's shard. Threads take turns in choosing.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    // A lease may be dropped by a thread that is ending.
    MINE.try_with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        mine.get()
    })
    .unwrap_or(0)
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

    /// Returns, for each bucket that grew since `earlier`, by how many durations and their mean.
    pub(crate) fn grown_since<'a>(
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
    fn bounds_rise() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_threads_record_at_the_same_time_adds_up() {
        let histogram = Histogram::new();
        std::thread::scope(|threads| {
            for _ in 0..2 * SHARDS {
                threads.spawn(|| {
                    for _ in 0..1_000 {
                        histogram.record(Duration::from_micros(3));
                    }
                });
            }
        });
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count(), 16_000);
        assert_eq!(snapshot.sum(), Duration::from_micros(48_000));
        let used = histogram.shards.iter().filter(|shard| {
            shard
                .buckets
                .iter()
                .any(|bucket| bucket.count.load(Ordering::Relaxed) > 0)
        });
        assert!(used.count() > 1, "all threads wrote to the same shard");
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
