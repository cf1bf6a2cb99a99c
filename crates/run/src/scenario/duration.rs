//! Durations as people write them.

use std::time::Duration;

use thiserror::Error;

use super::words::nearest;

/// Anything longer is a slip of the hand, and adding times must never overflow.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

const UNITS: &[(&str, f64)] = &[
    ("us", 1e-6),
    ("µs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    // What `format_duration` writes.
    ("min", 60.0),
    ("h", 3600.0),
];

const UNIT_WORDS: &[(&str, &str)] = &[
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("mins", "m"),
    ("minute", "m"),
    ("minutes", "m"),
    ("hour", "h"),
    ("hours", "h"),
    ("msec", "ms"),
    ("millis", "ms"),
    ("milliseconds", "ms"),
    ("usec", "us"),
    ("micros", "us"),
    ("microseconds", "us"),
];

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseDurationError {
    /// A number without a unit.
    #[error("{text:?} has no unit: did you mean \"{text}s\"?")]
    NoUnit {
        /// The text.
        text: String,
    },
    /// A number with a unit that is none.
    #[error("unknown unit `{unit}`: {}", suggestion(.number, .unit))]
    UnknownUnit {
        /// What stands before the unit.
        number: String,
        /// What stands in the unit's place.
        unit: String,
    },
    /// A duration below zero.
    #[error("{text:?} is negative")]
    Negative {
        /// The text.
        text: String,
    },
    /// More than 30 days.
    #[error("{text:?} is longer than 30 days")]
    TooLong {
        /// The text.
        text: String,
    },
    /// Not a number followed by a unit.
    #[error("{text:?} is not a duration, such as \"250ms\", \"20s\" or \"1.5m\"")]
    NotADuration {
        /// The text.
        text: String,
    },
}

impl ParseDurationError {
    /// Returns what is wrong, without the advice.
    pub(super) fn message(&self) -> String {
        match self {
            Self::NoUnit { text } => format!("the duration {text:?} has no unit"),
            Self::UnknownUnit { unit, .. } => format!("unknown unit `{unit}`"),
            Self::Negative { text } => format!("the duration {text:?} is negative"),
            Self::TooLong { text } => format!("the duration {text:?} is longer than 30 days"),
            Self::NotADuration { text } => format!("{text:?} is not a duration"),
        }
    }

    /// Returns the advice.
    pub(super) fn advice(&self) -> String {
        match self {
            Self::NoUnit { text } => match text.parse::<f64>() {
                // What would be refused in its turn is not suggested.
                Ok(0.0) => "write a number above zero and a unit, such as \"250ms\"".to_owned(),
                _ => format!("did you mean \"{text}s\"?"),
            },
            Self::UnknownUnit { number, unit } => suggestion(number, unit),
            Self::Negative { text } => {
                let forward = text.trim_start_matches('-');
                let unit = if forward.ends_with(|c: char| c.is_ascii_digit()) {
                    "s"
                } else {
                    ""
                };
                format!("durations count forward: did you mean \"{forward}{unit}\"?")
            }
            Self::TooLong { .. } => "a run lasts seconds to hours".to_owned(),
            Self::NotADuration { .. } => {
                "write a number and a unit, such as \"250ms\", \"20s\" or \"1.5m\"".to_owned()
            }
        }
    }
}

/// Reads a duration: a number, with decimals if need be, and one of `us`, `ms`, `s`, `m` (or `min`), `h`.
///
/// # Errors
/// [`ParseDurationError`] says what is wrong and what was probably meant.
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let trimmed = text.trim();
    let unit_at = trimmed
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+'))
        .unwrap_or(trimmed.len());
    let (number_text, unit) = trimmed.split_at(unit_at);
    let (number_text, unit) = (number_text.trim(), unit.trim());
    let owned = || trimmed.to_owned();
    let number: f64 = number_text
        .parse()
        .map_err(|_| ParseDurationError::NotADuration { text: owned() })?;
    if number.is_sign_negative() {
        return Err(ParseDurationError::Negative { text: owned() });
    }
    if unit.is_empty() {
        return Err(ParseDurationError::NoUnit { text: owned() });
    }
    let Some((_, seconds)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.chars().all(char::is_alphabetic) {
            ParseDurationError::UnknownUnit {
                number: number_text.to_owned(),
                unit: unit.to_owned(),
            }
        } else {
            ParseDurationError::NotADuration { text: owned() }
        });
    };
    Duration::try_from_secs_f64(number * seconds)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| ParseDurationError::TooLong { text: owned() })
}

fn suggestion(number: &str, unit: &str) -> String {
    let lower = unit.to_lowercase();
    let meant = UNIT_WORDS
        .iter()
        .find(|(word, _)| *word == lower)
        .map(|(_, unit)| *unit)
        .or_else(|| nearest(&lower, UNITS.iter().map(|(name, _)| *name)));
    match meant {
        Some(meant) => format!("did you mean \"{number}{meant}\"?"),
        None => "the units are `us`, `ms`, `s`, `m` and `h`".to_owned(),
    }
}
