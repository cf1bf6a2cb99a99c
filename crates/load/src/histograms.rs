//! Latency histograms, in microseconds, from the records of a load.

use hdrhistogram::Histogram;
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

/// Returns a histogram with the bounds that all of them have.
fn empty() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_US, SIGNIFICANT_DIGITS)
        .expect("bug: the constant bounds are valid")
}

#[cfg(test)]
mod tests {
    use poolproof_oracle::{Effect, Ending};

    use super::*;

    /// An op that arrived at 1,000 us, started 100 us late, and then did as told.
    fn record(outcome: Outcome, acquired_us: Option<u64>, ended_us: Option<u64>) -> OpRecord {
        OpRecord {
            id: 0,
            workload: "write-set".to_owned(),
            ending: Ending::Commit,
            effect: Effect::WriteSet { tables: 1 },
            intended_us: 1_000,
            started_us: 1_100,
            deadline_us: 1_000_000,
            acquired_us,
            commit_sent_us: None,
            ended_us,
            outcome,
            error: None,
            backend_pid: None,
            previous_op: None,
            clean_probe: None,
        }
    }

    fn values(histogram: &Histogram<u64>) -> Vec<u64> {
        histogram
            .iter_recorded()
            .flat_map(|step| {
                let count = usize::try_from(step.count_at_value()).unwrap();
                vec![step.value_iterated_to(); count]
            })
            .collect()
    }

    #[test]
    fn every_latency_counts_from_its_own_start() {
        // Values below 2,048 us are exact.
        let histograms = Histograms::from_records(
            &[
                record(Outcome::Ok, Some(1_300), Some(2_000)),
                record(Outcome::Fail, Some(1_400), Some(1_500)),
                record(Outcome::Shed, None, Some(1_700)),
            ],
            &[40, 50],
        );
        assert_eq!(values(&histograms.acquire), [200, 300]);
        assert_eq!(values(&histograms.queue_wait), [200, 300, 600]);
        assert_eq!(values(&histograms.hold), [100, 700]);
        assert_eq!(values(&histograms.response), [1_000]);
        assert_eq!(values(&histograms.connect), [40, 50]);
        assert_eq!(values(&histograms.lag), [100, 100, 100]);
    }

    #[test]
    fn an_op_that_waits_for_ever_counts_until_the_last_thing_seen() {
        let histograms = Histograms::from_records(
            &[
                record(Outcome::Fail, None, None),
                record(Outcome::Fail, Some(1_200), None),
                record(Outcome::Ok, Some(1_200), Some(3_000)),
            ],
            &[],
        );
        assert_eq!(values(&histograms.queue_wait), [100, 100, 1_900]);
        assert_eq!(values(&histograms.acquire), [100, 100]);
        assert_eq!(values(&histograms.hold), [1_800]);
    }

    #[test]
    fn a_latency_beyond_the_largest_counts_as_the_largest() {
        let histograms = Histograms::from_records(&[], &[LATENCY_MAX_US * 2]);
        assert_eq!(histograms.connect.len(), 1);
        let recorded = histograms.connect.max();
        assert!(histograms.connect.equivalent(recorded, LATENCY_MAX_US));
    }

    #[test]
    fn histograms_of_parts_add_up_to_that_of_the_whole() {
        let ended = |ended_us| record(Outcome::Ok, Some(1_200), Some(ended_us));
        let records: Vec<OpRecord> = (0..500).map(|k| ended(2_000 + k * 7_919)).collect();
        let (first, second) = records.split_at(200);
        let [whole, first, second] =
            [&records, first, second].map(|part| Histograms::from_records(part, &[]).response);

        assert_eq!(first + second, whole);
    }
}
