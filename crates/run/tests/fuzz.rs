//! The short fuzz of scenarios; `just fuzz` goes on for longer.

#[path = "../../../fuzz/properties/duration.rs"]
mod duration;
#[path = "../../../fuzz/properties/scenario.rs"]
mod scenario;
#[path = "../../../fuzz/short.rs"]
mod short;

#[test]
fn a_scenario_reads_the_same_when_written_anew_and_a_wrong_one_says_where() {
    let words = [
        "name = ",
        "title = ",
        "[pool]\n",
        "[load]\n",
        "[objective]\n",
        "[postgres]\n",
        "[[fault]]\n",
        "[[load.workload]]\n",
        "kind = \"bank\"",
        "kind = \"write-set\"",
        "kind = \"latency\"",
        "kind = \"bandwidth\"",
        "kind = \"silence\"",
        "kind = \"down\"",
        "kind = \"reset\"",
        "kind = \"terminate-backend\"",
        "at = \"1s\"",
        "for = \"2s\"",
        "\"250ms\"",
        "\"1us\"",
        "\"1.5m\"",
        "\"720h\"",
        "rate = ",
        "weight = 0",
        "\"\"\"",
        "'''",
        "0b1",
        "0xff",
        "1979-05-27",
        "true",
        "\n\n",
        "pool_size = ",
        "max_overflow = -1",
        "settings = { a = 1 }",
        "endings = { commit = 1 }",
        "\\u0000",
        "hold = ",
        "deadline = ",
    ];
    short::fuzz("scenario", 10_000, &words, scenario::check);
}

#[test]
fn a_duration_reads_the_same_when_shown_and_every_suggestion_is_one() {
    let words = [
        "us", "µs", "ms", "s", "m", "h", "min", "sec", "seconds", "hours", "d", "1.5", "720", "+",
        "30", "2592000", "Ms", "µ",
    ];
    short::fuzz("duration", 20_000, &words, duration::check);
}
