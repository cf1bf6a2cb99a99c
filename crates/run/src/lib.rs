//! Runs scenarios: assembles Postgres, fault proxy, pool, load and oracle, and judges.
//!
//! [`Scenario`] is the file, [`execute()`] one run of it with its reports, [`Progress`] what a run says
//! meanwhile, and [`Interrupt`] how it is ended early. Below a run stands the [`Bench`], a server for
//! any number of [`Trial`]s, each of which leaves [`Evidence`] and nothing else.
//!
//! Not here: arguments, colours, standard output. The command line is one user of this library;
//! a test suite may be another.

mod advice;
mod bench;
mod blast;
mod check;
mod claim;
mod doctor;
mod drive;
mod error;
mod evidence;
mod execute;
mod folder;
mod inject;
mod interrupt;
mod keeper;
mod namespace;
mod observe;
mod progress;
mod proxy;
mod pulse;
mod record;
mod scenario;
mod stage;
mod time;
mod trial;
mod watch;

pub use advice::write_advice;
pub use bench::{Bench, ServerChoice};
pub use blast::{RemoteConsent, check_blast_radius};
pub use check::{
    CheckError, Checked, Room, Share, TRIES as CHECK_TRIES, Timing, Unwritable, check,
};
pub use doctor::{Finding, FindingState, can_run, doctor};
pub use error::{RunError, SlowStep, causes};
pub use evidence::Evidence;
pub use execute::{Finished, PostgresChoice, RunOptions, execute};
pub use folder::HISTORY_SCHEMA;
pub use interrupt::{Interrupt, InterruptTrigger};
pub use poolproof_subjects::{Bug, SubjectKind, UnknownSubject};
pub use poolproof_testbed::{DEFAULT_IMAGE, ImageName, ImageNameError, settled};
pub use poolproof_url::{DatabaseUrl, UrlError};
pub use progress::{Progress, ProgressSink, Tick};
pub use proxy::{ProxyServer, ProxyServerError};
pub use scenario::{
    BackendTarget, FaultKind, FaultPlan, MAX_OPS, ObjectiveSection, ParseDurationError,
    PoolSection, PostgresSection, Problem, QUICKSTART, Scenario, ScenarioError, TooShort,
    format_duration, parse_duration, scenario_schema,
};
pub use trial::{Planned, Trial};
