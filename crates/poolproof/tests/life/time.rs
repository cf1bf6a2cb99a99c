//! What a run says about time when it was stopped or cut short: no more than it saw.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::place::Place;

/// Returns the result of one guarantee.
fn guarantee(record: &Value, code: &str) -> Value {
    let results = record["guarantees"].as_array().unwrap();
    let result = results.iter().find(|result| result["guarantee"] == code);
    result.unwrap().clone()
}

/// Goal: a process that did not run cannot have ended its calls in time, also after the last
/// arrival. Method: the silence ends with the load, at 3 s, and leaves ops without an answer; they
/// have to end by 7 s. The program is stopped from 3 s until 9 s.
#[test]
fn calls_that_overran_while_the_program_was_stopped_say_nothing() {
    let place = Place::new().with(
        "at = \"1800ms\"\nfor = \"400ms\"",
        "at = \"2s\"\nfor = \"1s\"",
    );
    let mut run = place.start(&[]);
    run.wait_for("bytes swallowed");
    run.stop_for(Duration::from_secs(6));
    let ended = run.end();
    let record = place.record();
    let t = guarantee(&record, "T");
    assert_eq!(t["status"], "void", "{t}{ended}");
    let reason = t["reason"].as_str().unwrap();
    assert!(reason.contains("held up everything"), "{reason}");
    assert_eq!(record["outcomes"]["stuck"], 0, "{ended}");
    ended.expect(4);
}

/// Goal: an interrupt is no failure. Method: one connection for 30 ops that hold it for 500 ms each,
/// with 15 s for each; the signal comes when they wait, and hardly anything has passed the fault.
#[test]
fn an_interrupt_leaves_ops_that_had_time_neither_stuck_nor_judged() {
    let place = Place::new().with_scenario(
        "name = 'queue'\n\
         pool = { pool_size = 1, max_overflow = 0 }\n\
         objective = { response = '30s' }\n\
         [load]\nrate = 60\nduration = '60s'\ndeadline = '15s'\nhold = '500ms'\n\
         [[load.workload]]\nkind = 'bank'\n\
         [[fault]]\nname = 'slow'\nkind = 'latency'\nlatency = '1ms'\nat = '500ms'\nfor = '50s'\n",
    );
    let mut run = place.start(&[]);
    run.wait_for("slow: ");
    run.signal(Signal::SIGINT);
    let ended = run.end().expect(130);
    place.partial_report();
    let record = place.record();
    assert_eq!(record["verdict"], "inconclusive", "{ended}");
    let t = guarantee(&record, "T");
    assert_eq!(
        (&t["violations"], &t["evidence"]),
        (&0.into(), &Value::Array(Vec::new()))
    );
    let outcomes = &record["outcomes"];
    assert_eq!(outcomes["stuck"], 0, "{outcomes}");
    let cut_short = outcomes["cut_short"].as_u64().unwrap();
    assert!(cut_short > 0, "{outcomes}");
    let summary = t["summary"].as_str().unwrap();
    let told = format!("{cut_short} ops cut short before the deadline, not judged");
    assert!(summary.ends_with(&told), "{summary}");
    assert!(!ended.stdout.contains("stuck"), "{ended}");
    let reasons = record["verdict_reasons"].to_string();
    assert!(!reasons.contains("does not count"), "{reasons}");
}
