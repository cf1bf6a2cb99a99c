//! The short fuzz of results that are read back; `just fuzz` goes on for longer.

#[path = "../../../fuzz/properties/record.rs"]
mod record;
#[path = "../../../fuzz/short.rs"]
mod short;

#[test]
fn whatever_is_read_as_a_result_is_written_the_same_and_can_be_shown() {
    let words = [
        "null",
        "true",
        "[]",
        "{}",
        "\"pass\"",
        "\"fail\"",
        "\"invalid\"",
        "\"inconclusive\"",
        "\"held\"",
        "\"violated\"",
        "\"void\"",
        "\\u0000",
        "\\u202e",
        "\\ud800",
        "1e300",
        "-1",
    ];
    short::fuzz("record", 5_000, &words, record::check);
}
