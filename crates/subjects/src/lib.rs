//! Pools behind [`poolproof_load::Subject`]: what a run puts under load.
//!
//! A *subject* is a pool that executes ops. Here are poolproof's own pool, stock `sqlx::Pool`, and
//! a small naive pool: correct as it is, or with one *planted bug* that an oracle must catch.
//!
//! Not here: load, faults, oracles. A subject says what each op came to and what it can about
//! itself; it judges nothing.

mod backends;
mod build;
mod capacity;
mod classify;
mod config;
mod kind;
mod naive;
mod planted;
mod poolproof;
mod sqlx_pool;
mod steps;

pub use build::{BuildError, build};
pub use config::SubjectConfig;
pub use kind::{Bug, SubjectKind, UnknownSubject};
