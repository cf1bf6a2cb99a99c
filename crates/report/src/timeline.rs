//! From single ops and samples to buckets of equal width.

use std::collections::BTreeMap;

use poolproof_oracle::{OpRecord, Outcome, Sample};

use crate::Bucket;

/// Sorts ops and samples into buckets of `width_us`, from the start of the load to `end_us`.
///
/// An op counts as offered where its intended start lies, as ended where it ended, and its acquire
/// where it got its connection. What happened at `end_us` or later is left out, up to the end of
/// the last bucket, which may reach beyond `end_us`. Connections that were opened before the load
/// count in the first bucket that has a sample. Costs O(n log n) in the ops.
///
/// # Panics
/// If `width_us` is 0.
#[must_use]
pub fn timeline(
    records: &[OpRecord],
    samples: &[Sample],
    width_us: u64,
    end_us: u64,
) -> Vec<Bucket> {
    assert!(width_us > 0, "a bucket has a width");
    let count = usize::try_from(end_us.div_ceil(width_us)).unwrap_or(usize::MAX);
    let mut slots: Vec<Slot> = Vec::new();
    slots.resize_with(count, Slot::default);
    let index = |at_us: u64| usize::try_from(at_us / width_us).unwrap_or(usize::MAX);

    for op in records {
        if let Some(slot) = slots.get_mut(index(op.intended_us)) {
            slot.offered += 1;
        }
        if let Some(at_us) = op.acquired_us
            && let Some(slot) = slots.get_mut(index(at_us))
        {
            slot.acquire_us.push(at_us.saturating_sub(op.started_us));
        }
        if let Some(at_us) = op.ended_us
            && let Some(slot) = slots.get_mut(index(at_us))
        {
            slot.end(op, at_us);
        }
    }
    for sample in samples {
        if let Some(slot) = slots.get_mut(index(sample.at_us)) {
            slot.see(sample);
        }
    }

    let mut opened_before = 0;
    (0_u64..)
        .map(|i| i * width_us)
        .zip(slots)
        .map(|(start_us, slot)| slot.into_bucket(start_us, width_us, &mut opened_before))
        .collect()
}

#[derive(Default)]
struct Slot {
    offered: u64,
    ok: u64,
    errors: BTreeMap<String, u64>,
    planned: BTreeMap<String, u64>,
    acquire_us: Vec<u64>,
    response_us: Vec<u64>,
    last: Option<Sample>,
}

impl Slot {
    fn end(&mut self, op: &OpRecord, at_us: u64) {
        if op.outcome == Outcome::Ok {
            self.ok += 1;
            self.response_us.push(at_us.saturating_sub(op.intended_us));
        } else {
            let category = op.error.as_ref().map_or("other", |e| e.category.as_str());
            let ends = if op.ended_as_planned() {
                &mut self.planned
            } else {
                &mut self.errors
            };
            *ends.entry(category.to_owned()).or_default() += 1;
        }
    }

    fn see(&mut self, sample: &Sample) {
        if self.last.is_none_or(|last| last.at_us <= sample.at_us) {
            self.last = Some(*sample);
        }
    }

    fn into_bucket(mut self, start_us: u64, width_us: u64, opened_before: &mut u64) -> Bucket {
        self.acquire_us.sort_unstable();
        self.response_us.sort_unstable();
        let pool = self.last.map(|sample| sample.pool).unwrap_or_default();
        let opened = pool.opened_total.map(|total| {
            let opened = total.saturating_sub(*opened_before);
            *opened_before = total.max(*opened_before);
            opened
        });
        Bucket {
            start_us,
            width_us,
            offered: self.offered,
            ok: self.ok,
            errors: self.errors,
            planned: self.planned,
            acquire_p50_us: nearest_rank(&self.acquire_us, 50),
            acquire_p99_us: nearest_rank(&self.acquire_us, 99),
            response_p50_us: nearest_rank(&self.response_us, 50),
            response_p99_us: nearest_rank(&self.response_us, 99),
            in_use: pool.in_use,
            idle: pool.idle,
            waiting: pool.waiting,
            opening: pool.opening,
            opened,
        }
    }
}

/// The smallest value that at least `percent` of 100 values do not exceed.
fn nearest_rank(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use poolproof_oracle::{Effect, Ending, ErrorCategory, OpError, PoolView};

    use super::*;

    fn op(intended_us: u64, acquired_us: Option<u64>, ended_us: Option<u64>) -> OpRecord {
        OpRecord {
            id: 0,
            workload: "bank".into(),
            ending: Ending::Commit,
            effect: Effect::WriteSet { tables: 2 },
            intended_us,
            started_us: intended_us + 5,
            deadline_us: 1_000,
            acquired_us,
            commit_sent_us: None,
            ended_us,
            outcome: Outcome::Ok,
            error: None,
            backend_pid: None,
            previous_op: None,
            clean_probe: None,
        }
    }

    fn sample(at_us: u64, opened_total: u64, in_use: u64) -> Sample {
        Sample {
            at_us,
            pool: PoolView {
                in_use: Some(in_use),
                opened_total: Some(opened_total),
                ..PoolView::default()
            },
            in_flight: 0,
            links: 0,
        }
    }

    #[test]
    fn an_op_counts_where_each_of_its_moments_lies() {
        let buckets = timeline(&[op(50, Some(155), Some(260))], &[], 100, 300);
        let offered: Vec<u64> = buckets.iter().map(|b| b.offered).collect();
        let ok: Vec<u64> = buckets.iter().map(|b| b.ok).collect();
        assert_eq!(offered, [1, 0, 0]);
        assert_eq!(ok, [0, 0, 1]);
        assert_eq!(buckets[1].acquire_p99_us, Some(100));
        assert_eq!(buckets[2].response_p50_us, Some(210));
        assert_eq!(buckets[0].response_p50_us, None);
        assert_eq!(
            buckets.iter().map(|b| b.start_us).collect::<Vec<_>>(),
            [0, 100, 200]
        );
    }

    #[test]
    fn errors_count_by_category_and_never_as_response() {
        let mut failed = op(10, None, Some(20));
        failed.outcome = Outcome::Shed;
        failed.error = Some(OpError {
            category: ErrorCategory::Capacity,
            sqlstate: None,
            message: "no connection within 1 s".into(),
        });
        let mut silent = op(11, None, Some(21));
        silent.outcome = Outcome::Fail;
        let buckets = timeline(&[failed, silent], &[], 100, 100);
        assert_eq!(
            buckets[0].errors,
            BTreeMap::from([("capacity".to_owned(), 1), ("other".to_owned(), 1)])
        );
        assert_eq!((buckets[0].ok, buckets[0].response_p99_us), (0, None));
    }

    #[test]
    fn planned_ends_are_no_errors_and_an_unplanned_panic_is_one() {
        let panicked = |ending| {
            let mut op = op(10, None, Some(20));
            op.ending = ending;
            op.outcome = Outcome::Fail;
            op.error = Some(OpError {
                category: ErrorCategory::Panicked,
                sqlstate: None,
                message: "a panic".into(),
            });
            op
        };
        let ops = [panicked(Ending::Panic), panicked(Ending::Commit)];
        let [bucket] = &timeline(&ops, &[], 100, 100)[..] else {
            panic!("one bucket")
        };
        let one = BTreeMap::from([("panicked".to_owned(), 1)]);
        assert_eq!((&bucket.errors, &bucket.planned), (&one, &one));
    }

    #[test]
    fn opened_is_the_increase_since_the_last_sample_that_told() {
        let samples = [
            sample(10, 5, 1),
            sample(90, 6, 3),
            sample(210, 9, 2),
            sample(399, 9, 0),
        ];
        let buckets = timeline(&[], &samples, 100, 400);
        let opened: Vec<Option<u64>> = buckets.iter().map(|b| b.opened).collect();
        assert_eq!(opened, [Some(6), None, Some(3), Some(0)]);
        assert_eq!(buckets[0].in_use, Some(3), "the last sample of the bucket");
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let ops: Vec<OpRecord> = (1..=200).map(|i| op(0, None, Some(i))).collect();
        let buckets = timeline(&ops, &[], 1_000, 1_000);
        assert_eq!(buckets[0].response_p50_us, Some(100));
        assert_eq!(buckets[0].response_p99_us, Some(198));
        let one = timeline(&ops[..1], &[], 1_000, 1_000);
        assert_eq!(one[0].response_p99_us, Some(1));
    }

    #[test]
    fn nothing_at_all_is_an_empty_timeline() {
        assert_eq!(timeline(&[], &[], 100, 0), []);
        let end_is_inside = timeline(&[op(120, None, None)], &[], 100, 150);
        assert_eq!(end_is_inside.len(), 2);
        assert_eq!(end_is_inside[1].offered, 1);
        let outside = timeline(&[op(500, None, Some(900))], &[], 100, 150);
        assert_eq!(outside.iter().map(|b| b.offered + b.ok).sum::<u64>(), 0);
    }
}
