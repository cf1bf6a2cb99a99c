//! Toxics as values: what they are called, their attributes, and how the API shows them.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// One effect on one direction of a proxy's links.
///
/// In a scenario file: `{ type = "latency", latency_ms = 40, jitter_ms = 10 }`. The HTTP API has
/// Toxiproxy's own names, without units; see [`Toxic::attributes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Toxic {
    /// Delivers every chunk `latency ± jitter` after it was received, in order.
    ///
    /// Chunks wait side by side, so throughput is not lowered. Connecting and a bare end of stream
    /// are not delayed. Several of them add up.
    Latency {
        /// The delay, in milliseconds.
        latency_ms: u32,
        /// How far the delay of each chunk may be off, in milliseconds (default 0).
        #[serde(default)]
        jitter_ms: u32,
    },
    /// Limits throughput. A rate of 0 is a stall that loses nothing.
    Bandwidth {
        /// The rate in kilobytes of 1000 bytes per second.
        rate_kb_s: u32,
    },
    /// Swallows everything; closes the link after a time of silence, or never if that is 0.
    ///
    /// Removing it closes the links that it was on: what it swallowed cannot be brought back.
    Timeout {
        /// The time of silence, in milliseconds.
        timeout_ms: u32,
    },
    /// Resets the link (RST to both sides) some time after the toxic reached it.
    ///
    /// It reaches established links when it is added and new ones when they open. Until it fires
    /// nothing is forwarded in its direction; removing it before then leaves a link alone unless
    /// bytes were already lost, in which case the reset comes at once.
    ResetPeer {
        /// How long after it reached the link, in milliseconds (default 0).
        #[serde(default)]
        timeout_ms: u32,
    },
    /// Does nothing.
    Noop,
}

impl Toxic {
    /// Returns the toxic of a Toxiproxy type with every attribute 0, or nothing for another word.
    #[must_use]
    pub fn of_type(kind: &str) -> Option<Self> {
        match kind {
            "latency" => Some(Self::Latency {
                latency_ms: 0,
                jitter_ms: 0,
            }),
            "bandwidth" => Some(Self::Bandwidth { rate_kb_s: 0 }),
            "timeout" => Some(Self::Timeout { timeout_ms: 0 }),
            "reset_peer" => Some(Self::ResetPeer { timeout_ms: 0 }),
            "noop" => Some(Self::Noop),
            _ => None,
        }
    }

    /// Returns Toxiproxy's word for its type.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Timeout { .. } => "timeout",
            Self::ResetPeer { .. } => "reset_peer",
            Self::Noop => "noop",
        }
    }

    /// Returns its attributes under Toxiproxy's names, in Toxiproxy's order.
    #[must_use]
    pub fn attributes(&self) -> Vec<(&'static str, u32)> {
        match *self {
            Self::Latency {
                latency_ms,
                jitter_ms,
            } => vec![("latency", latency_ms), ("jitter", jitter_ms)],
            Self::Bandwidth { rate_kb_s } => vec![("rate", rate_kb_s)],
            Self::Timeout { timeout_ms } | Self::ResetPeer { timeout_ms } => {
                vec![("timeout", timeout_ms)]
            }
            Self::Noop => Vec::new(),
        }
    }

    /// Sets the attributes that it has among those given; others are ignored.
    pub(crate) fn set_attributes(&mut self, attributes: &BTreeMap<String, u32>) {
        let put = |name: &str, slot: &mut u32| {
            if let Some(value) = attributes.get(name) {
                *slot = *value;
            }
        };
        match self {
            Self::Latency {
                latency_ms,
                jitter_ms,
            } => {
                put("latency", latency_ms);
                put("jitter", jitter_ms);
            }
            Self::Bandwidth { rate_kb_s } => put("rate", rate_kb_s),
            Self::Timeout { timeout_ms } | Self::ResetPeer { timeout_ms } => {
                put("timeout", timeout_ms);
            }
            Self::Noop => {}
        }
    }
}

/// The direction of a link that a toxic works on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// From the client to the server.
    Upstream,
    /// From the server to the client (the default, as in Toxiproxy).
    #[default]
    Downstream,
}

impl Stream {
    /// Returns Toxiproxy's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A toxic to add to a proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToxicSpec {
    /// Its name, unique within the proxy (default `<type>_<stream>`).
    #[serde(default)]
    pub name: Option<String>,
    /// What it does.
    pub toxic: Toxic,
    /// The direction that it works on (default downstream).
    #[serde(default)]
    pub stream: Stream,
    /// The share of links that it works on, 0 to 1 (default 1). Larger values mean all.
    #[serde(default = "all_links")]
    pub toxicity: f64,
}

impl ToxicSpec {
    /// A toxic with the default name on every link.
    #[must_use]
    pub fn new(toxic: Toxic, stream: Stream) -> Self {
        Self {
            name: None,
            toxic,
            stream,
            toxicity: all_links(),
        }
    }

    /// Gives it a name of its own.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Restricts it to a share of the links, 0 to 1.
    #[must_use]
    pub fn on_share(mut self, toxicity: f64) -> Self {
        self.toxicity = toxicity;
        self
    }
}

/// A change of a toxic. Its name, type and direction never change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToxicPatch {
    /// Attributes to set, under Toxiproxy's names; those that the toxic does not have are ignored.
    pub attributes: BTreeMap<String, u32>,
    /// The new share of links, if it changes.
    pub toxicity: Option<f64>,
}

impl From<Toxic> for ToxicPatch {
    fn from(toxic: Toxic) -> Self {
        let attributes = toxic
            .attributes()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        Self {
            attributes,
            toxicity: None,
        }
    }
}

/// A toxic as a proxy has it. Serialises to Toxiproxy's JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct ToxicView {
    /// Its name.
    pub name: String,
    /// What it does.
    pub toxic: Toxic,
    /// The direction that it works on.
    pub stream: Stream,
    /// The share of links that it works on.
    pub toxicity: f64,
}

impl Serialize for ToxicView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("attributes", &Attributes(&self.toxic))?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("type", self.toxic.kind())?;
        map.serialize_entry("stream", self.stream.as_str())?;
        map.serialize_entry("toxicity", &GoNumber(self.toxicity))?;
        map.end()
    }
}

struct Attributes<'a>(&'a Toxic);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.attributes())
    }
}

/// A number as Go prints it: `1`, not `1.0`.
struct GoNumber(f64);

impl Serialize for GoNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() <= EXACT_MAX {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a whole number within ±2^53 is exact in both types"
            )]
            let whole = self.0 as i64;
            serializer.serialize_i64(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

fn all_links() -> f64 {
    1.0
}

#[cfg(test)]
mod tests;
