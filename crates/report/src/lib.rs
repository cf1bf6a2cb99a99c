//! The result record `poolproof.result/v1` and its renderings: terminal text, HTML, Markdown, JUnit.
//!
//! Not here: a clock, a network, a file. A renderer takes a [`Record`] and returns text.

mod record;

pub use record::{
    Bucket, Environment, ErrorCount, FaultReport, HistogramRecord, Latencies, LoadInfo,
    ObjectiveResult, OutcomeCounts, PhaseSpan, PoolSettings, Record, RunInfo, SCHEMA_ID,
    SubjectRecord, Tool,
};
