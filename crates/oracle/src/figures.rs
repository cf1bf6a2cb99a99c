//! How figures are written in summaries and evidence.

use std::fmt;
use std::time::Duration;

/// A whole number with a comma between groups of three digits.
pub(crate) struct Grouped(i128);

/// Returns `value` with grouped digits.
pub(crate) fn grouped(value: impl Into<i128>) -> Grouped {
    Grouped(value.into())
}

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.unsigned_abs().to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad_integral(self.0 >= 0, "", &text)
    }
}

/// A number of things, with the noun in its number: `1 op`, `1,234 ops`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// A time or duration in microseconds, written in seconds without losing a digit.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if micros.is_multiple_of(1_000) {
            write!(f, "{whole}.{:03} s", micros / 1_000)
        } else {
            write!(f, "{whole}.{micros:06} s")
        }
    }
}

/// Writes a duration for people: `250 ms`, `1.5 s`, `20 s`, `2 min`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros == 0 {
        return "0 s".to_owned();
    }
    let (divisor, unit) = match micros {
        0..1_000 => (1, "µs"),
        1_000..1_000_000 => (1_000, "ms"),
        1_000_000..120_000_000 => (1_000_000, "s"),
        _ => (60_000_000, "min"),
    };
    let whole = micros / divisor;
    let thousandths = micros % divisor * 1_000 / divisor;
    let decimals = format!("{thousandths:03}");
    let decimals = decimals.trim_end_matches('0');
    if decimals.is_empty() {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{decimals} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Seconds, counted, grouped};

    #[test]
    fn digits_are_grouped_by_three_from_the_right() {
        let written: Vec<String> = [0_i64, 12, 999, 1_000, 12_345, 1_234_567, -64_000]
            .map(|value| grouped(value).to_string())
            .into();
        assert_eq!(
            written,
            ["0", "12", "999", "1,000", "12,345", "1,234,567", "-64,000"]
        );
        assert_eq!(format!("{:+}", grouped(1_500)), "+1,500");
    }

    #[test]
    fn nouns_follow_their_count() {
        assert_eq!(counted(0, "op"), "0 ops");
        assert_eq!(counted(1, "op"), "1 op");
        assert_eq!(counted(7_912, "op"), "7,912 ops");
    }

    #[test]
    fn seconds_keep_every_microsecond() {
        assert_eq!(Seconds(0).to_string(), "0.000 s");
        assert_eq!(Seconds(1_250_000).to_string(), "1.250 s");
        assert_eq!(Seconds(12_000_007).to_string(), "12.000007 s");
    }
}
