//! An embedded TCP fault proxy with the HTTP API of Toxiproxy 2.12.
//!
//! A *proxy* listens on one address and carries each connection to one upstream. The pair of
//! connections is a *link*; it has two directions, *upstream* (what the client sends) and
//! *downstream* (what it receives). A *toxic* is one effect on one direction of a proxy's links.
//!
//! [`Proxies`] is the registry, used in process; [`serve`] puts the HTTP API in front of it.
//! [`ProxyStats`] tells what the toxics really did, because a fault counts only when seen.
//!
//! Where the original has a bug, this one does what the original's documentation says:
//! - `reset_peer` resets links that are already established, and its removal does not block.
//! - Toxicity is decided once per link and toxic, from the seed, and not again at every change.
//! - `populate` enables a proxy that exists and is asked to be enabled.
//! - Bad attributes are answered with 400 and never crash the server.
//! - Half-closed connections stay half-closed: a client that has finished sending still receives.
//!
//! Not here: UDP, TLS, knowledge of the protocol inside, and randomness that is not from the seed.

mod accept;
mod chain;
mod draw;
mod error;
mod http;
mod link;
mod listen;
mod proxy;
mod registry;
mod tally;
mod toxic;

pub use error::{PopulateError, ProxyError, ToxicError};
pub use http::{ServeError, VERSION, serve};
pub use proxy::{ProxyPatch, ProxySpec, ProxyView};
pub use registry::Proxies;
pub use tally::ProxyStats;
pub use toxic::{Stream, Toxic, ToxicPatch, ToxicSpec, ToxicView};
