//! What holds for every text that is read as a result: what was read is written the same, and every
//! rendering can show it.

use poolproof_report::{Color, HistogramRecord, ReadError, Record, TerminalStyle};
use poolproof_report::{html, json, junit, markdown, parse, terminal};

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match parse(text) {
        Ok(record) => accepted(&record),
        Err(error) => refused(text, &error),
    }
}

fn accepted(record: &Record) {
    let written = json(record);
    let again = parse(&written).unwrap_or_else(|error| panic!("{error:?}: {written}"));
    assert_eq!(&again, record);
    assert_eq!(json(&again), written);
    for width in [0, 1, 40, 100] {
        for color in [Color::Never, Color::Always] {
            let lines = terminal(record, TerminalStyle { color, width });
            assert!(lines.lines().count() <= 200, "{lines}");
        }
    }
    for page in [html(record), markdown(record), junit(record)] {
        assert!(!page.is_empty());
    }
    let latencies = &record.latencies;
    for histogram in [
        &latencies.acquire,
        &latencies.queue_wait,
        &latencies.hold,
        &latencies.response,
        &latencies.connect,
        &latencies.lag,
    ] {
        decoded(histogram);
    }
}

fn decoded(record: &HistogramRecord) {
    match record.decode() {
        Ok(histogram) => {
            let again = HistogramRecord::from_histogram(&histogram)
                .unwrap_or_else(|error| panic!("{error:?}"));
            let decoded = again.decode().unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(decoded, histogram);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn refused(text: &str, error: &ReadError) {
    let shown = error.to_string();
    let repeated = match error {
        ReadError::UnknownSchema { found } => found.len(),
        ReadError::Syntax(_) | ReadError::NoSchema | ReadError::Shape(_) => 0,
    };
    assert!(
        shown.len() <= 200 + repeated && repeated <= text.len(),
        "{shown}"
    );
}
