//! Numbers and foreign text as people read them. Used by every rendering.

const SECOND_US: u64 = 1_000_000;
const MINUTE_US: u64 = 60 * SECOND_US;

/// A duration with three significant digits: `870 µs`, `4.2 ms`, `1.25 s`, `2 min 5 s`.
pub(crate) fn duration(us: u64) -> String {
    // The bounds lie half a unit of the last digit below the next unit, so nothing reads `1000 ms`.
    match us {
        0 => "0 s".to_owned(),
        1..1_000 => format!("{us} µs"),
        1_000..999_500 => format!("{} ms", three_digits(us as f64 / 1e3)),
        999_500..119_500_000 => format!("{} s", three_digits(us as f64 / 1e6)),
        _ => long_duration(us),
    }
}

fn long_duration(us: u64) -> String {
    let minutes = us.saturating_add(SECOND_US / 2) / MINUTE_US;
    if minutes >= 120 {
        return format!("{} h {} min", count(minutes / 60), minutes % 60);
    }
    let seconds = us.saturating_add(SECOND_US / 2) / SECOND_US % 60;
    format!("{minutes} min {seconds} s")
}

/// A moment, counted from the start of the load: `6.5 s`, `-0.61 s`.
pub(crate) fn moment(us: i64) -> String {
    let seconds = format!("{:.2}", us as f64 / 1e6);
    format!("{} s", trim_zeros(&seconds))
}

/// A moment that cannot be negative.
pub(crate) fn moment_u(us: u64) -> String {
    moment(i64::try_from(us).unwrap_or(i64::MAX))
}

/// A count with its thousands set apart: `8,012`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 fault`, `4 faults`.
pub(crate) fn counted(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(value))
}

/// A rate, without its unit: `400`, `33.3`.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second.is_finite() && per_second.abs() < 1e15 {
        three_digits(per_second)
    } else {
        format!("{per_second:e}")
    }
}

/// A share of a whole in percent: `91.2 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    // A share that is not the whole must not read as the whole.
    let share = (part as f64 / whole as f64 * 1_000.0).floor() / 10.0;
    format!("{} %", trim_zeros(&format!("{share:.1}")))
}

/// Three significant digits, more for what has more before the point.
pub(crate) fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        a if a >= 99.95 => 0,
        a if a >= 9.995 => 1,
        _ => 2,
    };
    trim_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn trim_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// Foreign text as one line of visible characters: no line breaks, no terminal escapes, nothing
/// that turns the direction of what follows.
pub(crate) fn one_line(text: &str) -> String {
    let visible: String = text
        .chars()
        .map(|c| if turns_or_controls(c) { ' ' } else { c })
        .collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn turns_or_controls(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts `text` to at most `max` characters; what was cut shows as `…`.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_the_unit_that_suits_them() {
        let read: Vec<String> = [
            0,
            1,
            999,
            1_000,
            4_203,
            88_400,
            999_499,
            999_500,
            1_250_000,
            119_499_999,
            125_000_000,
            7_199_400_000,
            7_200_000_000,
            u64::MAX,
        ]
        .map(duration)
        .into();
        assert_eq!(
            read,
            [
                "0 s",
                "1 µs",
                "999 µs",
                "1 ms",
                "4.2 ms",
                "88.4 ms",
                "999 ms",
                "1 s",
                "1.25 s",
                "119 s",
                "2 min 5 s",
                "119 min 59 s",
                "2 h 0 min",
                "5,124,095,576 h 1 min",
            ]
        );
    }

    #[test]
    fn moments_may_be_negative() {
        assert_eq!(moment(6_500_000), "6.5 s");
        assert_eq!(moment(-612_345), "-0.61 s");
        assert_eq!(moment_u(0), "0 s");
        assert_eq!(moment_u(u64::MAX), "9223372036854.78 s");
    }

    #[test]
    fn counts_set_thousands_apart_and_nouns_agree() {
        assert_eq!(count(999), "999");
        assert_eq!(count(8_012), "8,012");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "fault"), "1 fault");
        assert_eq!(counted(0, "fault"), "0 faults");
    }

    #[test]
    fn a_share_never_rounds_up_to_the_whole() {
        assert_eq!(percent(9_999, 10_000), "99.9 %");
        assert_eq!(percent(10_000, 10_000), "100 %");
        assert_eq!(percent(0, 0), "0 %");
    }

    #[test]
    fn rates_survive_what_is_no_rate() {
        assert_eq!(rate(400.0), "400");
        assert_eq!(rate(33.333), "33.3");
        assert_eq!(rate(f64::INFINITY), "inf");
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_start_a_line() {
        assert_eq!(one_line("a\u{1b}[2Jb\r\nc\u{202e}d"), "a [2Jb c d");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(shorten("äöü", 3), "äöü");
    }
}
