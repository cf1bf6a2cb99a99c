//! The proxy over real sockets, in process and over HTTP.
//!
//! No test measures how fast something was. A delay is shown by what has not arrived while the
//! toxic holds it, or by a lower bound, which noise cannot break.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

mod http_api;
mod links;
mod proxies;
mod support;
mod toxics;
