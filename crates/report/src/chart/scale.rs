//! Scales: from a value to a place on an axis, and the ticks that a reader expects there.

/// A vertical axis. Places run from 0 (bottom) to 1 (top).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scale {
    logarithmic: bool,
    min: f64,
    max: f64,
    /// Values that get a line and a label, ascending.
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// From 0 to a round number that is at least `max`, in steps of at least `smallest_step`.
    pub(crate) fn linear(max: f64, smallest_step: f64) -> Self {
        let wanted = if max.is_finite() && max > 0.0 {
            max
        } else {
            smallest_step
        };
        let step = round_up(wanted / 4.0).max(smallest_step);
        let steps = (wanted / step).ceil().max(1.0);
        Self {
            logarithmic: false,
            min: 0.0,
            max: steps * step,
            ticks: counted_steps(steps).map(|i| i * step).collect(),
        }
    }

    /// Whole decades around the values; one decade from 1 when there are none.
    pub(crate) fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|v| *v >= 1.0 && v.is_finite())
            .fold((f64::INFINITY, 1.0_f64), |(low, high), v| {
                (low.min(v), high.max(v))
            });
        let low = if low.is_finite() {
            low.log10().floor()
        } else {
            0.0
        };
        let high = high.log10().ceil().max(low + 1.0);
        let stride = ((high - low) / 6.0).ceil();
        Self {
            logarithmic: true,
            min: low,
            max: high,
            ticks: counted_steps(((high - low) / stride).floor())
                .map(|i| 10_f64.powf(low + i * stride))
                .collect(),
        }
    }

    /// The same scale for a plot that is too low for more than one label.
    pub(crate) fn with_top_tick_only(mut self) -> Self {
        self.ticks = self.ticks.pop().into_iter().collect();
        self
    }

    /// Where a value lies; values beyond the axis lie at its end.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic {
            value.max(1.0).log10()
        } else {
            value
        };
        ((value - self.min) / (self.max - self.min)).clamp(0.0, 1.0)
    }
}

/// 0, 1, 2, … up to `last`. The callers keep it below ten.
fn counted_steps(last: f64) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(0.0), |i| Some(i + 1.0)).take_while(move |i| *i <= last + 0.5)
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `value`.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|f| f * power >= value * (1.0 - 1e-9))
        .unwrap_or(10.0);
    factor * power
}

const SECOND_US: u64 = 1_000_000;
const MINUTE_US: u64 = 60 * SECOND_US;
const HOUR_US: u64 = 60 * MINUTE_US;
const DAY_US: u64 = 24 * HOUR_US;

/// The horizontal axis: from the start of the load to the end of what is shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TimeAxis {
    /// Where it ends, in microseconds; never 0.
    pub(crate) end_us: u64,
    step_us: u64,
}

impl TimeAxis {
    /// Creates an axis with about ten ticks.
    pub(crate) fn new(end_us: u64) -> Self {
        let end_us = end_us.max(1);
        let tens = std::iter::successors(Some(1_u64), |t| t.checked_mul(10));
        let below_ten_seconds = tens.clone().take_while(|t| *t < 10 * SECOND_US);
        let above_a_day = tens.map_while(|t| t.checked_mul(DAY_US));
        let step_us = below_ten_seconds
            .flat_map(|t| [t, 2 * t, 5 * t])
            .chain([10, 20, 30].map(|s| s * SECOND_US))
            .chain([1, 2, 5, 10, 20, 30].map(|m| m * MINUTE_US))
            .chain([1, 2, 6, 12].map(|h| h * HOUR_US))
            .chain(above_a_day.flat_map(|d| [d, d.saturating_mul(2), d.saturating_mul(5)]))
            .find(|step| *step >= end_us / 10)
            .unwrap_or(u64::MAX);
        Self { end_us, step_us }
    }

    /// Where a moment lies, in percent of the width; what is later lies at the end.
    pub(crate) fn percent(&self, at_us: u64) -> f64 {
        (at_us as f64 / self.end_us as f64 * 100.0).min(100.0)
    }

    /// The ticks: moment and label.
    pub(crate) fn ticks(&self) -> Vec<(u64, String)> {
        std::iter::successors(Some(0_u64), |t| t.checked_add(self.step_us))
            .take_while(|t| *t <= self.end_us)
            .map(|t| (t, self.label(t)))
            .collect()
    }

    fn label(&self, at_us: u64) -> String {
        let (unit_us, unit) = match self.step_us {
            s if s < 1_000 => (1, "µs"),
            s if s < 100_000 => (1_000, "ms"),
            s if s < MINUTE_US => (SECOND_US, "s"),
            s if s < HOUR_US => (MINUTE_US, "min"),
            s if s < DAY_US => (HOUR_US, "h"),
            _ => (DAY_US, "d"),
        };
        let whole = at_us / unit_us;
        if at_us.is_multiple_of(unit_us) {
            format!("{whole} {unit}")
        } else {
            // Only seconds are ever split, into tenths.
            format!("{whole}.{} {unit}", at_us % unit_us * 10 / unit_us)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(max: f64) -> Vec<f64> {
        Scale::linear(max, 1.0).ticks
    }

    #[test]
    fn linear_ticks_are_round_and_cover_the_values() {
        assert_eq!(linear(15.0), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(linear(412.0), [0.0, 200.0, 400.0, 600.0]);
        assert_eq!(linear(3.0), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(linear(0.0), [0.0, 1.0]);
        assert_eq!(linear(f64::INFINITY), [0.0, 1.0]);
        assert!(linear(1.8e19).last().is_some_and(|top| *top >= 1.8e19));
    }

    #[test]
    fn log_ticks_are_decades() {
        let scale = Scale::log([840.0, 1_230_000.0].into_iter());
        assert_eq!(scale.ticks.first(), Some(&100.0));
        assert_eq!(scale.ticks.len(), 6);
        assert!((scale.place(100.0)).abs() < 1e-9);
        assert!((scale.place(1e7) - 1.0).abs() < 1e-9);
        assert!((scale.place(31_622.776_6) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn a_log_scale_stands_nothing_zero_and_everything() {
        assert_eq!(Scale::log(std::iter::empty()).ticks, [1.0, 10.0]);
        assert_eq!(Scale::log([0.0].into_iter()).ticks, [1.0, 10.0]);
        let wide = Scale::log([1.0, 1.8e19].into_iter());
        assert!(wide.ticks.len() <= 8, "{:?}", wide.ticks);
        assert!(wide.place(0.0).abs() < 1e-9);
    }

    #[test]
    fn time_ticks_are_round_at_every_length() {
        let labels = |end_us| -> Vec<String> {
            TimeAxis::new(end_us)
                .ticks()
                .into_iter()
                .map(|(_, label)| label)
                .collect()
        };
        assert_eq!(labels(20_000_000)[..3], ["0 s", "2 s", "4 s"]);
        assert_eq!(labels(20_000_000).len(), 11);
        assert_eq!(labels(4_000_000)[..3], ["0 s", "0.5 s", "1 s"]);
        assert_eq!(labels(300_000_000)[1], "30 s");
        assert_eq!(labels(3 * HOUR_US)[1], "20 min");
        assert_eq!(labels(2 * DAY_US)[1], "6 h");
        assert_eq!(labels(0), ["0 µs", "1 µs"]);
        assert!(labels(u64::MAX).len() <= 12);
    }

    #[test]
    fn what_lies_beyond_the_axis_lies_at_its_end() {
        let axis = TimeAxis::new(10);
        assert!((axis.percent(5) - 50.0).abs() < 1e-9);
        assert!((axis.percent(u64::MAX) - 100.0).abs() < 1e-9);
        assert!((Scale::linear(10.0, 1.0).place(1e9) - 1.0).abs() < 1e-9);
    }
}
