//! A timeline of any length, as few enough buckets to draw.

use crate::Bucket;

/// More points than this are narrower than a pixel on most screens.
pub(crate) const POINTS_MAX: usize = 400;

/// Joins neighbouring buckets until at most [`POINTS_MAX`] are left.
///
/// Counts add up; percentiles and gauges keep their largest value, so that no peak is lost.
pub(crate) fn condense(timeline: &[Bucket]) -> Vec<Bucket> {
    let group = timeline.len().div_ceil(POINTS_MAX).max(1);
    timeline
        .chunks(group)
        .filter_map(|chunk| chunk.iter().cloned().reduce(join))
        .collect()
}

fn join(mut a: Bucket, b: Bucket) -> Bucket {
    a.width_us = a.width_us.saturating_add(b.width_us);
    a.offered = a.offered.saturating_add(b.offered);
    a.ok = a.ok.saturating_add(b.ok);
    for (sums, more) in [(&mut a.errors, b.errors), (&mut a.planned, b.planned)] {
        for (category, n) in more {
            let sum = sums.entry(category).or_default();
            *sum = sum.saturating_add(n);
        }
    }
    a.acquire_p50_us = a.acquire_p50_us.max(b.acquire_p50_us);
    a.acquire_p99_us = a.acquire_p99_us.max(b.acquire_p99_us);
    a.response_p50_us = a.response_p50_us.max(b.response_p50_us);
    a.response_p99_us = a.response_p99_us.max(b.response_p99_us);
    a.in_use = a.in_use.max(b.in_use);
    a.idle = a.idle.max(b.idle);
    a.waiting = a.waiting.max(b.waiting);
    a.opening = a.opening.max(b.opening);
    a.opened = match (a.opened, b.opened) {
        (Some(x), Some(y)) => Some(x.saturating_add(y)),
        (x, y) => x.or(y),
    };
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(i: u64) -> Bucket {
        Bucket {
            start_us: i * 10,
            width_us: 10,
            offered: 2,
            ok: 1,
            errors: [("capacity".to_owned(), 1)].into(),
            planned: [("panicked".to_owned(), 2)].into(),
            acquire_p50_us: None,
            acquire_p99_us: (i == 700).then_some(9),
            response_p50_us: None,
            response_p99_us: None,
            in_use: Some(i % 7),
            idle: None,
            waiting: None,
            opening: None,
            opened: Some(1),
        }
    }

    #[test]
    fn a_long_timeline_shrinks_without_losing_a_count_or_a_peak() {
        let long: Vec<Bucket> = (0..1_000).map(bucket).collect();
        let short = condense(&long);
        assert_eq!(short.len(), 334);
        assert_eq!(short.iter().map(|b| b.offered).sum::<u64>(), 2_000);
        assert_eq!(short.iter().map(|b| b.ok).sum::<u64>(), 1_000);
        assert_eq!(
            short.iter().map(|b| b.errors["capacity"]).sum::<u64>(),
            1_000
        );
        let planned = short.iter().map(|b| b.planned["panicked"]);
        assert_eq!(planned.sum::<u64>(), 2_000);
        assert_eq!(short.iter().filter_map(|b| b.opened).sum::<u64>(), 1_000);
        assert_eq!(
            short
                .iter()
                .filter_map(|b| b.acquire_p99_us)
                .collect::<Vec<_>>(),
            [9]
        );
        assert_eq!(short[1].start_us, 30);
        assert_eq!(short[1].width_us, 30);
        assert_eq!(short[1].in_use, Some(5));
    }

    #[test]
    fn a_short_timeline_stays_as_it_is() {
        let timeline: Vec<Bucket> = (0..400).map(bucket).collect();
        assert_eq!(condense(&timeline), timeline);
        assert_eq!(condense(&[]), []);
    }
}
