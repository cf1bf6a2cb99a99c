//! The JSON Schema of a scenario file, by which an editor completes and checks it.
//!
//! It says what each key may hold. What keys must make of each other (faults that overlap, a hold
//! above the deadline) only the reader knows.

#[cfg(test)]
mod tests;

use poolproof_testbed::RESERVED_SETTINGS;
use serde_json::{Map, Value, json};

use super::key::{Bounds, Key, Kind, Presence, Quantity, Table, Word};
use super::quantity::default_toml;
use super::table::ROOT;

/// A number and a unit. The reader allows 30 days at most, which no pattern can say.
const DURATION: &str = r"^\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)\s*(us|µs|ms|s|m|min|h)\s*$";

/// A duration of nothing, whatever its unit.
const ZERO: &str = "^[^1-9]*$";

/// Returns the JSON Schema of scenario files (draft 2020-12).
#[must_use]
pub fn scenario_schema() -> Value {
    let mut schema = object(&ROOT);
    let mut put = |key: &str, value: &str| schema.insert(key.to_owned(), json!(value));
    put("$schema", "https://json-schema.org/draft/2020-12/schema");
    put("$id", "urn:poolproof:schema:scenario:v1");
    put("title", "A scenario of poolproof");
    put(
        "description",
        "Which pool, which load, which faults when, and what is expected.",
    );
    Value::Object(schema)
}

fn object(table: &Table) -> Map<String, Value> {
    let kind_keys = table.kind_keys();
    let all = table.keys.iter().chain(kind_keys.iter().copied());
    let properties: Map<_, _> = all
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let mut object = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("description".to_owned(), json!(table.doc)),
        ("properties".to_owned(), Value::Object(properties)),
        ("required".to_owned(), json!(required(table.keys))),
        ("additionalProperties".to_owned(), json!(false)),
    ]);
    if let Some(kinds) = table.kinds() {
        let kinds = (kinds.all)();
        let conditions = kinds.iter().map(|kind| condition(kind, &kind_keys));
        object.insert("allOf".to_owned(), conditions.collect());
    }
    object
}

/// What holds for a table of one kind: it has what the kind needs, and nothing of other kinds.
///
/// A condition for each kind instead of one choice between all, so that an editor can say which key
/// is wrong.
fn condition(kind: &Kind, all: &[&Key]) -> Value {
    let others = all.iter().filter(|key| !kind.has(key.name));
    let none: Map<_, _> = others
        .map(|key| (key.name.to_owned(), json!(false)))
        .collect();
    json!({
        "if": { "properties": { "kind": { "const": kind.name.word } }, "required": ["kind"] },
        "then": { "properties": none, "required": required(kind.keys) },
    })
}

fn required(keys: &[Key]) -> Vec<&'static str> {
    let required = keys.iter().filter(|key| key.is_required());
    required.map(|key| key.name).collect()
}

fn property(key: &Key) -> Value {
    let mut property = quantity(key);
    property.insert("description".to_owned(), json!(description(key)));
    if let Presence::Default(text) = key.presence {
        property.insert("default".to_owned(), default(key, text));
    }
    Value::Object(property)
}

fn description(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if let Some(unit) = key.unit {
        text = format!("{text} In {unit}.");
    }
    for word in words(key.quantity) {
        text = format!("{text}\n`{}`: {}", word.word, word.doc);
    }
    match key.presence {
        Presence::Otherwise(meaning) => format!("{text}\nDefault: {meaning}."),
        _ => text,
    }
}

/// Returns the words that a key may hold, where it holds one of a list.
pub(super) fn words(quantity: Quantity) -> Vec<Word> {
    match quantity {
        Quantity::Word(words) => words.all.to_vec(),
        Quantity::Kind(kinds) => (kinds.all)().iter().map(|kind| kind.name).collect(),
        _ => Vec::new(),
    }
}

fn default(key: &Key, text: &str) -> Value {
    let line = format!("it = {}", default_toml(key, text));
    let mut table: Map<String, Value> =
        toml::from_str(&line).expect("bug: a default is a value in TOML");
    table.remove("it").expect("bug: it stands there")
}

fn quantity(key: &Key) -> Map<String, Value> {
    let schema = match key.quantity {
        Quantity::Name => json!({
            "type": "string", "maxLength": 64, "pattern": "^[a-z0-9][a-z0-9_-]*$",
            "not": { "const": "latest" },
        }),
        Quantity::Label => json!({ "type": "string", "pattern": r"\S" }),
        Quantity::Text => json!({ "type": "string" }),
        Quantity::Flag => json!({ "type": "boolean" }),
        Quantity::Integer { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Quantity::Number(Bounds::AboveZero) => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Quantity::Number(Bounds::Fraction) => {
            json!({ "type": "number", "minimum": 0, "maximum": 1 })
        }
        Quantity::Duration { zero: true } => json!({ "type": "string", "pattern": DURATION }),
        Quantity::Duration { zero: false } => json!({
            "type": "string", "pattern": DURATION, "not": { "pattern": ZERO },
        }),
        Quantity::Word(_) | Quantity::Kind(_) => {
            let words: Vec<_> = words(key.quantity).iter().map(|word| word.word).collect();
            json!({ "type": "string", "enum": words })
        }
        Quantity::Table(table) => Value::Object(object(table)),
        Quantity::Tables(table) => json!({
            "type": "array", "items": object(table), "minItems": u8::from(key.is_required()),
        }),
        Quantity::Settings => settings(),
    };
    match schema {
        Value::Object(schema) => schema,
        other => panic!("bug: {other} is no schema of a key"),
    }
}

/// Names of settings in any case but those that the run decides, with values on one line.
fn settings() -> Value {
    let any_case = |name: &&str| -> String {
        let both = |c: char| match c.is_ascii_alphabetic() {
            true => format!("[{}{c}]", c.to_ascii_uppercase()),
            false => c.to_string(),
        };
        name.chars().map(both).collect()
    };
    let reserved: Vec<_> = RESERVED_SETTINGS.iter().map(any_case).collect();
    json!({
        "type": "object",
        "propertyNames": {
            "pattern": "^[A-Za-z_][A-Za-z0-9_.$]*$",
            "not": { "pattern": format!("^({})$", reserved.join("|")) },
        },
        "additionalProperties": {
            "type": ["string", "number", "boolean"],
            "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
        },
    })
}
