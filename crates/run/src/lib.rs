//! Runs scenarios: assembles Postgres, fault proxy, pool, load and oracle, and judges.
//!
//! [`Scenario`] is the file, [`execute()`] one run of it, [`Progress`] what a run says meanwhile,
//! and [`Interrupt`] how it is ended early.
//!
//! Not here: arguments, colours, standard output. The command line is one user of this library;
//! a test suite may be another.

mod advice;
mod assemble;
mod blast;
mod check;
mod claim;
mod doctor;
mod drive;
mod error;
mod execute;
mod inject;
mod interrupt;
mod keeper;
mod namespace;
mod objectives;
mod observe;
mod output;
mod progress;
mod proxy;
mod pulse;
mod scenario;
mod stage;
mod time;
mod watch;

pub use advice::write_advice;
pub use blast::{RemoteConsent, check_blast_radius};
pub use check::{
    CheckError, Checked, Room, Share, TRIES as CHECK_TRIES, Timing, Unwritable, check,
};
pub use doctor::{Finding, FindingState, can_run, doctor};
pub use error::{RunError, SlowStep, causes};
pub use execute::{Finished, PostgresChoice, RunOptions, execute};
pub use interrupt::{Interrupt, InterruptTrigger};
pub use output::HISTORY_SCHEMA;
pub use poolproof_pool::{DatabaseUrl, UrlError};
pub use poolproof_subjects::{Bug, SubjectKind, UnknownSubject};
pub use poolproof_testbed::{DEFAULT_IMAGE, ImageName, ImageNameError, settled};
pub use progress::{Progress, ProgressSink, Tick};
pub use proxy::{ProxyServer, ProxyServerError};
pub use scenario::{
    BackendTarget, FaultKind, FaultPlan, MAX_OPS, ObjectiveSection, ParseDurationError,
    PoolSection, PostgresSection, Problem, QUICKSTART, Scenario, ScenarioError, TooShort,
    format_duration, parse_duration,
};
