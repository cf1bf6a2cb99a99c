//! Latency histograms, in microseconds, from the records of a load.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2Serializer};
use poolproof_oracle::{OpRecord, Outcome};

/// The largest value that a histogram tells apart: one hour. Longer ones count as one hour.
///
/// All histograms have the same bounds and precision, so that those of several runs can be added.
pub const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Decimal digits that are kept of a value.
const SIGNIFICANT_DIGITS: u8 = 3;

/// The histograms of one load, in microseconds.
///
/// The names mean the same as in the record of a run.
#[derive(Debug, Clone)]
pub struct Histograms {
    /// From the actual start to the connection, of ops that got one.
    pub acquire: Histogram<u64>,
    /// From the actual start to the connection or to giving up: every op. An op that did neither
    /// counts with the time until the last thing that any op of the load did.
    pub queue_wait: Histogram<u64>,
    /// From the connection to the end, of ops that ended.
    pub hold: Histogram<u64>,
    /// From the intended start to the end, of ops that came to `ok`.
    pub response: Histogram<u64>,
    /// Opening a connection, where the subject can tell.
    pub connect: Histogram<u64>,
    /// The generator's own lag: actual minus intended start.
    pub lag: Histogram<u64>,
}

impl Histograms {
    /// Fills the histograms from the records of a load and the connect times that its subject
    /// told.
    #[must_use]
    pub fn from_records(records: &[OpRecord], connect_times_us: &[u64]) -> Self {
        let last_seen_us = records
            .iter()
            .map(|record| record.ended_us.unwrap_or(record.started_us))
            .max()
            .unwrap_or(0);
        let mut histograms = Self {
            acquire: empty(),
            queue_wait: empty(),
            hold: empty(),
            response: empty(),
            connect: empty(),
            lag: empty(),
        };
        for record in records {
            histograms.add(record, last_seen_us);
        }
        for connect_us in connect_times_us {
            histograms.connect.saturating_record(*connect_us);
        }
        histograms
    }

    fn add(&mut self, record: &OpRecord, last_seen_us: u64) {
        let since = |from: u64, to: u64| to.saturating_sub(from);
        self.lag
            .saturating_record(since(record.intended_us, record.started_us));
        let queue_end = record
            .acquired_us
            .or(record.ended_us)
            .unwrap_or(last_seen_us);
        self.queue_wait
            .saturating_record(since(record.started_us, queue_end));
        if let Some(acquired_us) = record.acquired_us {
            self.acquire
                .saturating_record(since(record.started_us, acquired_us));
            if let Some(ended_us) = record.ended_us {
                self.hold.saturating_record(since(acquired_us, ended_us));
            }
        }
        if let (Outcome::Ok, Some(ended_us)) = (record.outcome, record.ended_us) {
            self.response
                .saturating_record(since(record.intended_us, ended_us));
        }
    }
}

/// Encodes a histogram in HdrHistogram's V2 format, uncompressed.
///
/// # Panics
/// Never: the bounds of the histograms of [`Histograms`] are within the format's.
#[must_use]
pub fn encode_v2(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2Serializer::new()
        .serialize(histogram, &mut bytes)
        .expect("bug: a histogram with constant bounds can be encoded into memory");
    bytes
}

/// Returns a histogram with the bounds that all of them have.
fn empty() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, SIGNIFICANT_DIGITS)
        .expect("bug: the constant bounds are valid")
}
