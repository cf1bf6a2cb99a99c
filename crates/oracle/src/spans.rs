//! Stretches of time that were merged where they touch.

/// Stretches of time, none of which touches another, in order.
#[derive(Debug)]
pub(crate) struct Spans(Vec<Span>);

#[derive(Debug)]
struct Span {
    start: u64,
    end: u64,
    /// How long all spans before it are together.
    before: u64,
}

impl Spans {
    /// Merges stretches given as start and end, in any order. Takes O(n · log n).
    pub(crate) fn merged(stretches: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut sorted: Vec<(u64, u64)> = stretches.into_iter().collect();
        sorted.sort_unstable();
        let mut spans: Vec<Span> = Vec::new();
        for (start, end) in sorted {
            match spans.last_mut() {
                Some(last) if start <= last.end => last.end = last.end.max(end),
                last => {
                    let before = last.map_or(0, |last| last.before + (last.end - last.start));
                    spans.push(Span { start, end, before });
                }
            }
        }
        Self(spans)
    }

    /// Returns how much of `from..until` lies in spans, in their unit. Takes O(log n).
    pub(crate) fn within(&self, from: u64, until: u64) -> u64 {
        self.until(until).saturating_sub(self.until(from))
    }

    /// Whether a span begins before `until` and has not ended before `from`. Takes O(log n).
    pub(crate) fn touch(&self, from: u64, until: u64) -> bool {
        self.last_begun(until).is_some_and(|last| last.end >= from)
    }

    /// Returns how much lies in spans up to `at`.
    fn until(&self, at: u64) -> u64 {
        match self.last_begun(at) {
            Some(last) => last.before + (last.end.min(at) - last.start),
            None => 0,
        }
    }

    fn last_begun(&self, at: u64) -> Option<&Span> {
        let begun = self.0.partition_point(|span| span.start < at);
        self.0[..begun].last()
    }
}

#[cfg(test)]
mod tests {
    use super::Spans;

    #[test]
    fn what_overlaps_or_touches_is_one_span_and_counts_once() {
        let spans = Spans::merged([(300, 320), (100, 150), (120, 140), (130, 200), (200, 220)]);
        let merged: Vec<(u64, u64)> = spans.0.iter().map(|s| (s.start, s.end)).collect();
        assert_eq!(merged, [(100, 220), (300, 320)]);
        assert_eq!(spans.within(0, 1_000), 140);
    }

    #[test]
    fn overlaps_and_touches_are_those_of_a_look_at_every_moment() {
        let stretches = [(10, 30), (30, 45), (60, 75), (62, 90), (64, 80), (110, 125)];
        let spans = Spans::merged(stretches);
        let covered = |at: &u64| {
            stretches
                .iter()
                .any(|(start, end)| (start..end).contains(&at))
        };
        for from in 0..130 {
            for until in from..130 {
                let counted = (from..until).filter(covered).count() as u64;
                assert_eq!(spans.within(from, until), counted, "{from}..{until}");
                let touched = stretches
                    .iter()
                    .any(|(start, end)| *start < until && *end >= from);
                assert_eq!(spans.touch(from, until), touched, "{from}..{until}");
            }
        }
    }
}
