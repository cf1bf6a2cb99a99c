//! The record as JSON: written, read back, and described by a JSON Schema.

use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;

use crate::{Record, SCHEMA_ID};

/// Why a text could not be read as a record.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The text is not JSON.
    #[error("read a result that is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// It is JSON, but does not say which schema it follows.
    #[error("read a result that names no schema (expected \"schema\": \"{SCHEMA_ID}\")")]
    NoSchema,
    /// It follows a schema that this version does not know.
    #[error("read a result of schema \"{found}\" (this version reads \"{SCHEMA_ID}\")")]
    UnknownSchema {
        /// The schema that it names.
        found: String,
    },
    /// It names the right schema and does not follow it.
    #[error("read a result that does not follow \"{SCHEMA_ID}\"")]
    Shape(#[source] serde_json::Error),
}

/// Writes a record as indented JSON with a final newline.
///
/// # Panics
/// Never: a record holds nothing that JSON cannot.
#[must_use]
pub fn json(record: &Record) -> String {
    let mut text = serde_json::to_string_pretty(record)
        .expect("bug: a record has text keys and plain values only");
    text.push('\n');
    text
}

/// Reads a record from JSON. Keys that this version does not know are passed over.
///
/// # Errors
/// [`ReadError`], with line and column where the text itself is at fault.
pub fn parse(text: &str) -> Result<Record, ReadError> {
    #[derive(Deserialize)]
    struct Head {
        schema: Option<Value>,
    }

    let document: Value = serde_json::from_str(text).map_err(ReadError::Syntax)?;
    let head: Head = serde_json::from_value(document).map_err(|_| ReadError::NoSchema)?;
    match head.schema {
        Some(Value::String(found)) if found == SCHEMA_ID => {
            serde_json::from_str(text).map_err(ReadError::Shape)
        }
        Some(Value::String(found)) => Err(ReadError::UnknownSchema { found }),
        _ => Err(ReadError::NoSchema),
    }
}

/// Returns the JSON Schema (draft 2020-12) of a record.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Record>().to_value();
    let root = schema
        .as_object_mut()
        .expect("bug: the schema of a struct is an object");
    root.insert("$id".into(), "urn:poolproof:schema:result:v1".into());
    root.insert("title".into(), SCHEMA_ID.into());
    schema
}
