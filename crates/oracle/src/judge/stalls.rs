//! When everything was held up: stretches in which even the generator could not start its ops.

use crate::OpRecord;

/// Stretches of time, none of which touches another, in order.
#[derive(Debug)]
pub(super) struct Stalls {
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    start: u64,
    end: u64,
    /// How long all spans before it are together.
    before: u64,
}

impl Stalls {
    /// Returns the stretches in which an op that should have started had to wait for longer than
    /// `lag_us`. Takes O(n · log n) for n ops.
    pub(super) fn of(ops: &[OpRecord], lag_us: u64) -> Self {
        let mut late: Vec<(u64, u64)> = ops
            .iter()
            .filter(|op| op.started_us.saturating_sub(op.intended_us) > lag_us)
            .map(|op| (op.intended_us, op.started_us))
            .collect();
        late.sort_unstable();
        let mut spans: Vec<Span> = Vec::new();
        for (start, end) in late {
            match spans.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                last => {
                    let before = last.map_or(0, |last| last.before + (last.end - last.start));
                    spans.push(Span { start, end, before });
                }
            }
        }
        Self { spans }
    }

    /// Returns how much of `from..until` was stalled, in microseconds. Takes O(log n).
    pub(super) fn within(&self, from: u64, until: u64) -> u64 {
        self.until(until).saturating_sub(self.until(from))
    }

    /// Returns how much was stalled up to `at`.
    fn until(&self, at: u64) -> u64 {
        let begun = self.spans.partition_point(|span| span.start < at);
        match self.spans[..begun].last() {
            Some(last) => last.before + (last.end.min(at) - last.start),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stalls;
    use crate::OpRecord;
    use crate::fixture::committed;

    const LAG_US: u64 = 10;

    fn stalls(late: &[(u64, u64)]) -> Stalls {
        let ops: Vec<OpRecord> = late
            .iter()
            .map(|(intended_us, started_us)| OpRecord {
                intended_us: *intended_us,
                started_us: *started_us,
                ..committed(0)
            })
            .collect();
        Stalls::of(&ops, LAG_US)
    }

    #[test]
    fn what_overlaps_or_touches_is_one_stall_and_counts_once() {
        let stalls = stalls(&[(300, 320), (100, 150), (120, 140), (130, 200), (200, 220)]);
        let spans: Vec<(u64, u64)> = stalls.spans.iter().map(|s| (s.start, s.end)).collect();
        assert_eq!(spans, [(100, 220), (300, 320)]);
        assert_eq!(stalls.within(0, 1_000), 140);
    }

    #[test]
    fn only_a_lag_beyond_the_bound_is_a_stall() {
        assert_eq!(stalls(&[(100, 110)]).within(0, 1_000), 0);
        assert_eq!(stalls(&[(100, 111)]).within(0, 1_000), 11);
    }

    #[test]
    fn an_overlap_is_as_long_as_a_microsecond_by_microsecond_count() {
        let late = [(10, 30), (30, 45), (60, 75), (62, 90), (64, 80), (110, 125)];
        let stalls = stalls(&late);
        let stalled = |at: &u64| late.iter().any(|(start, end)| (start..end).contains(&at));
        for from in 0..130 {
            for until in from..130 {
                let counted = (from..until).filter(stalled).count() as u64;
                assert_eq!(stalls.within(from, until), counted, "{from}..{until}");
            }
        }
    }
}
