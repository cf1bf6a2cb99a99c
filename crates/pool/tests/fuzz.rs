//! The short fuzz of what the crate reads from outside; `just fuzz` goes on for longer.

#[path = "../../../fuzz/properties/config.rs"]
mod config;
#[path = "support/frame.rs"]
mod frame;
#[path = "../../../fuzz/properties/frames.rs"]
mod frames;
#[path = "../../../fuzz/short.rs"]
mod short;

#[test]
fn a_valid_configuration_works_and_an_invalid_one_says_what_to_mend() {
    let words = [
        "name ",
        "pool_size ",
        "max_overflow ",
        "overflow_linger ",
        "min_idle ",
        "idle_timeout ",
        "idle_order lifo",
        "pool_recycle ",
        "pool_timeout ",
        "connect_timeout ",
        "pre_ping yes",
        "pre_ping_after ",
        "ping_timeout ",
        "reset_timeout ",
        "close_timeout ",
        "max_connecting ",
        "waiters_max ",
        "backoff_min ",
        "backoff_max ",
        "fail_fast_after ",
        "leak_threshold ",
        "metrics no",
        "failures ",
        "answer ",
        "idle ",
        "none",
        "max",
        "1000000000\n",
        "1000000\n",
    ];
    short::fuzz("config", 5_000, &words, config::check);
}

#[test]
fn messages_are_cut_at_the_same_places_however_they_arrive() {
    let words = [
        "\0\0\0\u{4}",
        "\0\0\0\u{8}",
        "\0\0\0\0",
        "Q\0\0\0\u{5}",
        "X",
        "Z\0\0\0\u{5}I",
    ];
    short::fuzz("frames", 20_000, &words, frames::check);
}
