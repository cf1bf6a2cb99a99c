//! Faults as they happened.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One fault of a run: what was done, when, and what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultEvent {
    /// Its name in the scenario, unique within the run.
    pub name: String,
    /// What kind of fault, in the scenario's word (`latency`, `reset`, `silence`, …).
    pub kind: String,
    /// One phrase with its parameters, for people (`latency 40 ± 10 ms`).
    pub title: String,
    /// When it was injected, in microseconds from the start of the load.
    pub start_us: u64,
    /// When it was healed; equal to `start_us` for a fault without duration.
    pub end_us: u64,
    /// What was seen of it.
    pub effect: FaultEffect,
    /// When it was to happen; none in a file from before this was told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub planned: Option<FaultPlanned>,
    /// Names of the faults with a duration that were in force when it was injected.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub within: Vec<String>,
}

/// When a fault was to happen. A fault that waits for a moment (commits in flight, an open
/// transaction) comes when the subject lets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultPlanned {
    /// When it was to be injected, in microseconds from the start of the load.
    pub start_us: u64,
    /// When it was to be healed; equal to `start_us` for a fault without duration.
    pub end_us: u64,
    /// Names of the faults with a duration that were to be in force at `start_us`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub within: Vec<String>,
}

impl FaultEvent {
    /// Returns the names of the faults within which it was to come and did not.
    #[must_use]
    pub fn outside(&self) -> Vec<&str> {
        let planned = self.planned.iter().flat_map(|planned| &planned.within);
        planned
            .filter(|name| !self.within.contains(name))
            .map(String::as_str)
            .collect()
    }
}

/// What was seen of a fault. A fault counts only when seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FaultEffect {
    /// Whether it was read back and its effect was seen.
    pub seen: bool,
    /// How much of it was seen, in `unit`s.
    pub count: u64,
    /// What was counted (`bytes held`, `links reset`, `backends terminated`).
    pub unit: String,
    /// Why nothing was seen, when nothing was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}
