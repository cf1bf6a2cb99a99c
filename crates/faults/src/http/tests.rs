//! Tests of the HTTP API without a socket.

use super::reply::Failure;
use super::*;

#[path = "../../../../fuzz/short.rs"]
mod short;
#[path = "../../../../fuzz/properties/toxiproxy.rs"]
mod toxiproxy;

#[test]
fn whatever_a_body_says_it_says_again_when_sent_back() {
    let words = [
        "\"name\":",
        "\"type\":",
        "\"stream\":",
        "\"toxicity\":",
        "\"attributes\":",
        "\"latency\":",
        "\"jitter\":",
        "\"rate\":",
        "\"timeout\":",
        "\"listen\":",
        "\"upstream\":",
        "\"enabled\":",
        "\"latency\"",
        "\"bandwidth\"",
        "\"timeout\"",
        "\"reset_peer\"",
        "\"noop\"",
        "\"UPSTREAM\"",
        "\"Downstream\"",
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "\\u0000",
        "\\ud800",
    ];
    short::fuzz("toxiproxy", 20_000, &words, toxiproxy::check);
}

fn refusal<T: std::fmt::Debug>(result: Result<T, BodyError>) -> String {
    serde_json::to_string(&Failure::from(result.unwrap_err())).unwrap()
}

fn spec(text: &str) -> Result<crate::toxic::ToxicSpec, BodyError> {
    body::toxic_spec(&Fields::read(text.as_bytes())?)
}

#[test]
fn keys_match_in_any_case_and_null_is_as_good_as_nothing() {
    let text = r#"{"NAME":"pg","Upstream":"u:1","listen":null,"enabled":null,"toxics":[]}"#;
    let spec = body::proxy_spec(&Fields::read(text.as_bytes()).unwrap()).unwrap();
    assert_eq!((spec.name.as_str(), spec.upstream.as_str()), ("pg", "u:1"));
    assert_eq!((spec.listen, spec.enabled), (None, true));
}

#[test]
fn an_exact_key_wins_over_one_in_another_case() {
    let fields = Fields::read(br#"{"NAME":"a","Name":"b","name":"c"}"#).unwrap();
    assert_eq!(body::proxy_spec(&fields).unwrap().name, "c");
}

#[test]
fn what_follows_the_first_value_is_not_looked_at() {
    let fields = Fields::read(br#"{"name":"pg"} and more"#).unwrap();
    assert_eq!(body::proxy_spec(&fields).unwrap().name, "pg");
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    let read = |text: &str| refusal(Fields::read(text.as_bytes()));
    let text = |error| format!(r#"{{"error":"bad request body: {error}","status":400}}"#);
    assert_eq!(read(""), text("EOF"));
    assert_eq!(read(r#"{"name":"#), text("unexpected EOF"));
    assert_eq!(read("[]"), text("cannot read an array as an object"));
    assert!(read("{]").starts_with(r#"{"error":"bad request body: "#));
}

#[test]
fn attributes_are_whole_numbers_of_32_bits_or_refused() {
    let attempt = |value: &str| {
        let text = format!(r#"{{"type":"latency","attributes":{{"latency":{value}}}}}"#);
        spec(&text)
    };
    let latency = |latency_ms| Toxic::Latency {
        latency_ms,
        jitter_ms: 0,
    };
    assert_eq!(attempt("4294967295").unwrap().toxic, latency(u32::MAX));
    assert_eq!(attempt("null").unwrap().toxic, latency(0));
    for bad in [
        "-1",
        "1.5",
        "1.0",
        "1e3",
        "4294967296",
        "\"1\"",
        "true",
        "[1]",
    ] {
        let text = refusal(attempt(bad));
        assert!(
            text.starts_with(r#"{"error":"bad request body: cannot read "#),
            "{text}"
        );
        assert!(
            text.ends_with(r#"in field latency","status":400}"#),
            "{text}"
        );
    }
}

#[test]
fn attributes_that_the_toxic_does_not_have_are_ignored() {
    let found = spec(r#"{"type":"timeout","attributes":{"typo":"x","latency":1.5}}"#).unwrap();
    assert_eq!(found.toxic, Toxic::Timeout { timeout_ms: 0 });
}

#[test]
fn a_stream_is_read_in_any_case_and_toxicity_without_limits() {
    let found = spec(r#"{"type":"noop","stream":"UPSTREAM","toxicity":7}"#).unwrap();
    assert_eq!(found.stream, crate::toxic::Stream::Upstream);
    assert_eq!(found.toxicity, 7.0);
    assert_eq!(
        refusal(spec(r#"{"type":"noop","stream":"sideways"}"#)),
        r#"{"error":"stream was invalid, can be either upstream or downstream","status":400}"#
    );
}

#[test]
fn a_wrong_stream_is_told_before_a_wrong_type() {
    assert!(refusal(spec(r#"{"type":"x","stream":"y"}"#)).contains("stream was invalid"));
    assert!(refusal(spec(r#"{"type":"x"}"#)).contains("invalid toxic type"));
    assert!(refusal(spec("{}")).contains("invalid toxic type"));
}
