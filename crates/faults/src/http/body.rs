//! Request bodies, read as leniently as Go reads JSON, and no more.
//!
//! Keys match whatever their case, unknown keys and `null` are ignored, and what follows the first
//! value is not looked at. Types are strict: a fraction is no integer, a number is no text.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::proxy::{ProxyPatch, ProxySpec};
use crate::toxic::{Stream, Toxic, ToxicPatch, ToxicSpec};

/// Why a request body was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("EOF")]
    Empty,
    #[error("unexpected EOF")]
    Truncated,
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    #[error("cannot read {found} as {wanted}")]
    Shape {
        found: &'static str,
        wanted: &'static str,
    },
    #[error("cannot read {found} as {wanted} in field {field}")]
    Field {
        field: String,
        found: String,
        wanted: &'static str,
    },
    #[error("stream {0:?}")]
    Stream(String),
    #[error("type {0:?}")]
    ToxicType(String),
}

/// The fields of a JSON object. `null` is an object without any.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn read(body: &[u8]) -> Result<Self, BodyError> {
        Self::of(first_value(body)?)
    }

    fn of(value: Value) -> Result<Self, BodyError> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            Value::Null => Ok(Self(Map::new())),
            other => Err(BodyError::Shape {
                found: kind(&other),
                wanted: "an object",
            }),
        }
    }

    /// The value of a key in exactly this case, else in any case; `null` is no value.
    fn get(&self, key: &str) -> Option<&Value> {
        let exact = self.0.get(key);
        let folded = || {
            let same = |(name, _): &(&String, &Value)| name.eq_ignore_ascii_case(key);
            self.0.iter().find(same).map(|(_, value)| value)
        };
        exact.or_else(folded).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Result<Option<String>, BodyError> {
        self.typed(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, BodyError> {
        self.typed(key, "a bool", Value::as_bool)
    }

    fn number(&self, key: &str) -> Result<Option<f64>, BodyError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// Attributes are integers that every client can read back: 32 bits, not negative.
    fn attribute(&self, key: &str) -> Result<Option<u32>, BodyError> {
        self.typed(key, "an integer from 0 to 4294967295", |value| {
            value.as_u64().and_then(|value| u32::try_from(value).ok())
        })
    }

    fn object(&self, key: &str) -> Result<Self, BodyError> {
        let found = self.typed(key, "an object", |value| value.as_object().cloned())?;
        Ok(Self(found.unwrap_or_default()))
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, BodyError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let found = || match value {
            Value::Number(number) => format!("number {number}"),
            other => kind(other).to_owned(),
        };
        let wrong = || BodyError::Field {
            field: key.to_owned(),
            found: found(),
            wanted,
        };
        read(value).map(Some).ok_or_else(wrong)
    }
}

/// Reads a proxy to create. What is missing is left empty: the registry says so.
pub(super) fn proxy_spec(fields: &Fields) -> Result<ProxySpec, BodyError> {
    Ok(ProxySpec {
        name: fields.text("name")?.unwrap_or_default(),
        listen: fields.text("listen")?,
        upstream: fields.text("upstream")?.unwrap_or_default(),
        enabled: fields.flag("enabled")?.unwrap_or(true),
    })
}

pub(super) fn proxy_list(body: &[u8]) -> Result<Vec<ProxySpec>, BodyError> {
    match first_value(body)? {
        Value::Array(values) => values
            .into_iter()
            .map(|value| proxy_spec(&Fields::of(value)?))
            .collect(),
        Value::Null => Ok(Vec::new()),
        other => Err(BodyError::Shape {
            found: kind(&other),
            wanted: "an array",
        }),
    }
}

pub(super) fn proxy_patch(fields: &Fields) -> Result<ProxyPatch, BodyError> {
    Ok(ProxyPatch {
        listen: fields.text("listen")?,
        upstream: fields.text("upstream")?,
        enabled: fields.flag("enabled")?,
    })
}

pub(super) fn toxic_spec(fields: &Fields) -> Result<ToxicSpec, BodyError> {
    let name = fields.text("name")?;
    let kind = fields.text("type")?.unwrap_or_default();
    let stream = fields.text("stream")?;
    let toxicity = fields.number("toxicity")?;
    let stream = match stream {
        Some(text) => parse_stream(text)?,
        None => Stream::default(),
    };
    let Some(mut toxic) = Toxic::of_type(&kind) else {
        return Err(BodyError::ToxicType(kind));
    };
    toxic.set_attributes(&attributes(fields, &toxic)?);
    Ok(ToxicSpec {
        name,
        toxic,
        stream,
        toxicity: toxicity.unwrap_or(1.0),
    })
}

pub(super) fn toxic_patch(fields: &Fields, current: &Toxic) -> Result<ToxicPatch, BodyError> {
    Ok(ToxicPatch {
        attributes: attributes(fields, current)?,
        toxicity: fields.number("toxicity")?,
    })
}

/// Those attributes of a toxic that the body gives.
fn attributes(fields: &Fields, toxic: &Toxic) -> Result<BTreeMap<String, u32>, BodyError> {
    let given = fields.object("attributes")?;
    let mut found = BTreeMap::new();
    for (name, _) in toxic.attributes() {
        if let Some(value) = given.attribute(name)? {
            found.insert(name.to_owned(), value);
        }
    }
    Ok(found)
}

fn parse_stream(text: String) -> Result<Stream, BodyError> {
    [Stream::Upstream, Stream::Downstream]
        .into_iter()
        .find(|stream| stream.as_str().eq_ignore_ascii_case(&text))
        .ok_or(BodyError::Stream(text))
}

fn first_value(body: &[u8]) -> Result<Value, BodyError> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter();
    match values.next() {
        None => Err(BodyError::Empty),
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err(BodyError::Truncated),
        Some(Err(error)) => Err(BodyError::Syntax(error)),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
