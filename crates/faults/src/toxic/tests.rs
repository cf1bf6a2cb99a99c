//! Tests of toxics as values.

use super::*;

#[test]
fn a_view_has_toxiproxys_shape_and_prints_numbers_like_go() {
    let view = ToxicView {
        name: "slow".to_owned(),
        toxic: Toxic::Latency {
            latency_ms: 40,
            jitter_ms: 10,
        },
        stream: Stream::Upstream,
        toxicity: 1.0,
    };
    assert_eq!(
        serde_json::to_string(&view).unwrap(),
        r#"{"attributes":{"latency":40,"jitter":10},"name":"slow","type":"latency","stream":"upstream","toxicity":1}"#
    );
    let text = |toxicity| {
        serde_json::to_value(GoNumber(toxicity))
            .unwrap()
            .to_string()
    };
    assert_eq!(text(0.25), "0.25");
    assert_eq!(text(7.0), "7");
    assert_eq!(text(-1.0), "-1");
    assert_eq!(text(1e300), "1e+300");
}

#[test]
fn a_scenario_names_a_toxic_by_type_with_units_in_its_keys() {
    let read = |text| serde_json::from_str::<Toxic>(text);
    assert_eq!(
        read(r#"{"type":"latency","latency_ms":40}"#).unwrap(),
        Toxic::Latency {
            latency_ms: 40,
            jitter_ms: 0
        }
    );
    assert_eq!(read(r#"{"type":"noop"}"#).unwrap(), Toxic::Noop);
    assert_eq!(
        read(r#"{"type":"reset_peer"}"#).unwrap(),
        Toxic::ResetPeer { timeout_ms: 0 }
    );
}

#[test]
fn a_scenario_with_a_misspelt_or_impossible_toxic_is_refused() {
    let complaint = |text| serde_json::from_str::<Toxic>(text).unwrap_err().to_string();
    assert!(complaint(r#"{"type":"latencie"}"#).contains("unknown variant `latencie`"));
    assert!(
        complaint(r#"{"type":"latency","latency_ms":1,"jiter_ms":2}"#)
            .contains("unknown field `jiter_ms`")
    );
    assert!(complaint(r#"{"type":"bandwidth"}"#).contains("missing field `rate_kb_s`"));
    assert!(complaint(r#"{"type":"bandwidth","rate_kb_s":-1}"#).contains("invalid value"));
}

#[test]
fn every_type_is_found_by_its_word_and_takes_its_attributes_back() {
    for kind in ["latency", "bandwidth", "timeout", "reset_peer", "noop"] {
        let mut toxic = Toxic::of_type(kind).unwrap();
        assert_eq!(toxic.kind(), kind);
        assert!(toxic.attributes().iter().all(|(_, value)| *value == 0));
        let given = (1..)
            .zip(toxic.attributes())
            .map(|(value, (name, _))| (name.to_owned(), value))
            .collect();
        toxic.set_attributes(&given);
        let expected = ToxicPatch {
            attributes: given,
            toxicity: None,
        };
        assert_eq!(ToxicPatch::from(toxic), expected);
    }
    assert_eq!(Toxic::of_type("slow_clothes"), None);
}
