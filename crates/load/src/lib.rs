//! Load: when ops arrive, what they contain, who runs them, and how long they take.
//!
//! A [`Schedule`] is generated from a [`LoadSpec`] and a seed; [`start`] puts it to a [`Subject`]
//! and returns [`Running`]; its records become [`Histograms`].
//!
//! Not here: SQL other than as text, connections, faults, and any judgement of what happened.

mod driver;
mod flight;
mod gauges;
mod histograms;
mod leases;
mod schedule;
mod seed;
mod subject;
mod workload;

pub use driver::{Finished, Running, start};
pub use gauges::Gauges;
pub use histograms::{Histograms, LATENCY_MAX_US};
pub use leases::{BackendId, Leases};
pub use schedule::{
    Arrivals, EndingWeights, LoadSpec, OPS_MAX, Schedule, ScheduleError, WeightedWorkload,
};
pub use subject::{OpEnd, Subject, SubjectInfo, Trace, planned_panic};
pub use workload::{
    BANK_ACCOUNTS_READ_SQL, BANK_SUM_READ_SQL, OP_LOG_READ_SQL, OP_LOG_SCHEMA_SQL, TRANSFER_MAX,
    WRITE_SET_TABLES_MAX, Workload,
};
