//! Proxies as values: what creates one, what changes one, and how the API shows one.

use serde::{Deserialize, Serialize};

use crate::toxic::ToxicView;

/// A proxy to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxySpec {
    /// Its name, unique and not empty.
    pub name: String,
    /// Where it listens, `host:port`. Port 0 is any free port; nothing or an empty text is any
    /// free port on every interface, as in Toxiproxy.
    #[serde(default)]
    pub listen: Option<String>,
    /// Where it connects to, `host:port`, resolved anew for each link.
    pub upstream: String,
    /// Whether it starts to listen at once (default true).
    #[serde(default = "enabled")]
    pub enabled: bool,
}

impl ProxySpec {
    /// An enabled proxy on any free port of 127.0.0.1.
    #[must_use]
    pub fn local(name: impl Into<String>, upstream: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: Some("127.0.0.1:0".to_owned()),
            upstream: upstream.into(),
            enabled: true,
        }
    }
}

/// A change of a proxy; what is `None` stays.
///
/// A new `listen` or `upstream` ends all its links. The same values leave them alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyPatch {
    /// Where it listens from now on.
    pub listen: Option<String>,
    /// Where it connects to from now on.
    pub upstream: Option<String>,
    /// Whether it listens. When it stops, its links end and new connections are refused; it keeps
    /// its address, but the port is free for others until it listens again.
    pub enabled: Option<bool>,
}

/// A proxy as it is. Serialises to Toxiproxy's JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyView {
    /// Its name.
    pub name: String,
    /// Where it listens; once it has been started, an address with its port resolved.
    pub listen: String,
    /// Where it connects to.
    pub upstream: String,
    /// Whether it listens.
    pub enabled: bool,
    /// Its toxics, those of the upstream direction first, each in order of their adding.
    pub toxics: Vec<ToxicView>,
}

fn enabled() -> bool {
    true
}
