//! What holds for every text that is read as a duration.

use std::time::Duration;

use poolproof_run::{ParseDurationError, format_duration, parse_duration};

const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match parse_duration(text) {
        Ok(duration) => accepted(text, duration),
        Err(error) => refused(text, &error),
    }
}

fn accepted(text: &str, duration: Duration) {
    assert!(duration <= LONGEST, "{text:?} is {duration:?}");
    let exact = format!("{}.{:09}s", duration.as_secs(), duration.subsec_nanos());
    assert_eq!(parse_duration(&exact), Ok(duration), "{text:?}");
    // What people are shown is read back, and loses less than a thousandth.
    let shown = format_duration(duration);
    let read = parse_duration(&shown)
        .unwrap_or_else(|error| panic!("{text:?} is shown as {shown:?}: {error}"));
    let lost = duration.abs_diff(read);
    let allowed = (duration / 1000).max(Duration::from_micros(1));
    assert!(
        lost <= allowed,
        "{text:?} is shown as {shown:?}: {lost:?} lost"
    );
}

fn refused(text: &str, error: &ParseDurationError) {
    let shown = error.to_string();
    assert!(
        !shown.is_empty() && shown.len() <= 300 + 10 * text.len(),
        "{shown}"
    );
    let Some((_, meant)) = shown.split_once("did you mean \"") else {
        return;
    };
    let meant = meant.trim_end_matches("\"?");
    // Whoever does what the message says comes further.
    match parse_duration(meant) {
        Ok(_) | Err(ParseDurationError::TooLong { .. }) => {}
        Err(next) => panic!("{text:?}: {shown}: {next}"),
    }
}
