//! Placeholder.

mod scenario;

pub use scenario::{
    BackendTarget, FaultKind, FaultPlan, ObjectiveSection, ParseDurationError, PoolSection,
    PostgresSection, Problem, QUICKSTART, Scenario, ScenarioError, format_duration, parse_duration,
};
