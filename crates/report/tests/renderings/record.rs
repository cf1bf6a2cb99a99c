//! The record as JSON: what is written reads back, and follows the schema.

use poolproof_report::{ReadError, Record, SCHEMA_ID, json, parse, schema};
use serde_json::Value;

use crate::{demo, extremes};

#[test]
fn what_is_written_reads_back_the_same() {
    for mut record in [
        demo::passed(),
        demo::failed(),
        demo::passed_without_recovery(),
        demo::invalid(),
        demo::partial(),
        demo::empty(),
        extremes::hostile(),
        extremes::huge(),
    ] {
        record.load.rate_per_s = 1_000.0 / 3.0;
        assert_eq!(parse(&json(&record)).unwrap(), record);
    }
}

#[test]
fn another_version_is_refused_by_its_name() {
    let text = json(&demo::passed()).replace(SCHEMA_ID, "poolproof.result/v2");
    let error = parse(&text).unwrap_err();
    assert!(matches!(&error, ReadError::UnknownSchema { found } if found == "poolproof.result/v2"));
    insta::assert_snapshot!(error, @r#"read a result of schema "poolproof.result/v2" (this version reads "poolproof.result/v1")"#);
}

#[test]
fn what_is_no_record_is_refused_with_its_place() {
    assert!(matches!(parse("{\"schema\": "), Err(ReadError::Syntax(e)) if e.line() == 1));
    assert!(matches!(parse("{}"), Err(ReadError::NoSchema)));
    assert!(matches!(parse("[1]"), Err(ReadError::NoSchema)));
    assert!(matches!(parse("{\"schema\": 7}"), Err(ReadError::NoSchema)));
    let text = json(&demo::passed()).replacen("\"seed\": 42", "\"seed\": -1", 1);
    let Err(ReadError::Shape(source)) = parse(&text) else {
        panic!("a negative seed was read");
    };
    assert!(source.line() > 1, "{source}");
}

#[test]
fn a_record_of_before_the_connection_figures_still_reads() {
    let mut document: Value = serde_json::from_str(&json(&demo::passed())).unwrap();
    document
        .as_object_mut()
        .unwrap()
        .remove("connections")
        .unwrap();
    let record = parse(&document.to_string()).unwrap();
    assert_eq!(record.connections.peak, None);
}

#[test]
fn a_record_of_before_the_causes_of_doubt_still_reads() {
    let mut document: Value = serde_json::from_str(&json(&demo::passed())).unwrap();
    for doubt in document["commits_in_doubt"].as_array_mut().unwrap() {
        assert_eq!(
            doubt.as_object_mut().unwrap().remove("cause").unwrap(),
            "fault"
        );
    }
    let record = parse(&document.to_string()).unwrap();
    assert!(
        record
            .commits_in_doubt
            .iter()
            .all(|doubt| doubt.cause.is_none())
    );
    assert_eq!(record.commits_in_doubt.len(), 4);
}

#[test]
fn the_schema_names_itself() {
    let schema = schema();
    assert_eq!(schema["$id"], "urn:poolproof:schema:result:v1");
    assert_eq!(schema["title"], SCHEMA_ID);
    assert_eq!(schema["properties"]["schema"]["const"], SCHEMA_ID);
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
}

#[test]
fn records_follow_the_schema() {
    let schema = schema();
    for record in [
        demo::passed(),
        demo::failed(),
        demo::passed_without_recovery(),
        demo::invalid(),
        demo::partial(),
        demo::empty(),
        extremes::hostile(),
    ] {
        let document: Value = serde_json::from_str(&json(&record)).unwrap();
        assert_eq!(
            faults(&schema, &schema, &document, "$"),
            Vec::<String>::new()
        );
    }
}

#[test]
fn the_schema_refuses_what_is_not_a_record() {
    let schema = schema();
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut document: Value = serde_json::from_str(&json(&demo::failed())).unwrap();
        change(&mut document);
        faults(&schema, &schema, &document, "$")
    };
    let without_seed = broken(&|d| {
        d["run"].as_object_mut().unwrap().remove("seed").unwrap();
    });
    assert_eq!(without_seed, ["$.run: no seed"]);
    assert_eq!(
        broken(&|d| d["schema"] = "other".into()),
        ["$.schema: not the constant"]
    );
    assert_eq!(broken(&|d| d["verdict"] = "splendid".into()).len(), 1);
    assert_eq!(
        broken(&|d| d["timeline"][2]["ok"] = "7".into()),
        ["$.timeline[2].ok: wrong type"]
    );
    assert_eq!(
        broken(&|d| d["guarantees"][0]["status"] = "kept".into()).len(),
        1
    );
}

/// Checks `value` against the keywords that `schemars` writes.
fn faults(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap();
        found.extend(faults(root, target, value, at));
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        found.push(format!("{at}: not the constant"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        found.push(format!("{at}: not one of the words"));
    }
    if !has_type(&schema["type"], value) {
        found.push(format!("{at}: wrong type"));
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        let key = key.as_str().unwrap();
        if value.get(key).is_none() {
            found.push(format!("{at}: no {key}"));
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let known = schema["properties"]
            .get(key)
            .or_else(|| schema.get("additionalProperties"));
        if let Some(known) = known.filter(|known| known.is_object()) {
            found.extend(faults(root, known, inner, &format!("{at}.{key}")));
        }
    }
    for (i, inner) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(items) = schema.get("items") {
            found.extend(faults(root, items, inner, &format!("{at}[{i}]")));
        }
    }
    for keyword in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[keyword].as_array()
            && !choices
                .iter()
                .any(|choice| faults(root, choice, value, at).is_empty())
        {
            found.push(format!("{at}: none of {keyword}"));
        }
    }
    found
}

fn has_type(expected: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    match expected {
        Value::Null => true,
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().any(|name| is(name.as_str().unwrap())),
        other => panic!("not a type: {other}"),
    }
}

#[test]
fn a_record_without_a_schema_key_is_told_from_one_of_another_version() {
    let mut record: Record = demo::empty();
    record.schema = String::new();
    assert!(matches!(
        parse(&json(&record)),
        Err(ReadError::UnknownSchema { found }) if found.is_empty()
    ));
}
