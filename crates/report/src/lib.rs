//! The result record `poolproof.result/v1` and its renderings: terminal text, HTML, Markdown, JUnit.
//!
//! Not here: a clock, a network, a file. A renderer takes a [`Record`] and returns text.

mod chart;
mod headline;
mod histogram;
mod html;
mod json;
mod junit;
mod markdown;
mod record;
pub mod runs;
mod terminal;
mod timeline;
mod units;

pub use histogram::{HistogramDecodeError, HistogramEncodeError};
pub use html::html;
pub use json::{ReadError, json, parse, schema};
pub use junit::junit;
pub use markdown::markdown;
pub use poolproof_oracle::{CutShort, ObjectiveResult, Verdict};
pub use record::{
    Bucket, Connections, Environment, ErrorCount, FaultReport, HistogramRecord, Latencies,
    LoadInfo, PhaseSpan, PoolSettings, Record, RunInfo, SCHEMA_ID, SubjectRecord, Tool,
};
pub use terminal::{Color, TerminalStyle, terminal};
pub use timeline::timeline;
