//! The kinds of fault that a scenario can name, one file each, and how `[[fault]]` is read.

mod bandwidth;
mod down;
mod latency;
mod reset;
mod silence;
mod stall;
mod terminate_backend;

use super::key::{Key, Kind, Kinds, Misplaced, Quantity, Word, Words};
use super::problem::{Problem, Problems};
use super::rules::PlacedFault;
use super::values::Values;
use super::{BackendTarget, FaultKind, FaultPlan};

/// The kinds of fault, in the order in which messages and the reference list them.
const FAULTS: [Fault; 7] = [
    latency::FAULT,
    bandwidth::FAULT,
    stall::FAULT,
    silence::FAULT,
    down::FAULT,
    reset::FAULT,
    terminate_backend::FAULT,
];

/// What `kind` in `[[fault]]` may say.
pub(super) const FAULT_KINDS: Kinds = Kinds {
    what: "kind of fault",
    all: || FAULTS.iter().map(|fault| fault.kind).collect(),
    misplaced,
};

/// One kind of fault, as a scenario knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// What is made of a table of it; nothing without a key that it needs.
    read: fn(&Values, &Problems) -> Option<FaultKind>,
    /// What nothing could be seen of within it.
    pub(super) hides: Hides,
}

/// Kinds of fault that nothing could be seen of within another, and why.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hides {
    Nothing,
    All {
        why: &'static str,
    },
    Kinds {
        kinds: &'static [&'static str],
        why: &'static str,
    },
}

/// The key of all kinds that last.
const FOR: Key = Key::new(
    "for",
    Quantity::Duration { zero: false },
    "How long it lasts.",
)
.required("for = \"3s\"")
.also(&["duration"]);

impl Fault {
    /// Returns the fault that a scenario calls `word`.
    ///
    /// # Panics
    /// When there is none: words come from the table.
    pub(super) fn called(word: &str) -> Self {
        let mut all = FAULTS.into_iter();
        all.find(|fault| fault.kind.name.word == word)
            .unwrap_or_else(|| panic!("bug: no fault is called {word:?}"))
    }

    /// Says why nothing of a fault of kind `other` could be seen within this one.
    pub(super) fn hides(self, other: &str) -> Option<&'static str> {
        match self.hides {
            Hides::All { why } => Some(why),
            Hides::Kinds { kinds, why } if kinds.contains(&other) => Some(why),
            Hides::Nothing | Hides::Kinds { .. } => None,
        }
    }
}

/// Reads one fault; none without what it needs.
pub(super) fn fault(values: &Values, problems: &Problems) -> Option<PlacedFault> {
    let fault = Fault::called(values.kind?.name.word);
    let kind = (fault.read)(values, problems);
    let lasts = match fault.kind.has(FOR.name) {
        true => Some(values.given(FOR.name)?),
        false => None,
    };
    let (name, at) = (values.given("name")?, values.given("at")?);
    let commits = fault.kind.has("commits_in_flight");
    let commits = commits.then(|| values.given::<u32>("commits_in_flight"));
    Some(PlacedFault {
        plan: FaultPlan {
            name: name.value,
            kind: kind?,
            at: at.value,
            duration: lasts.as_ref().map(|found| found.value),
        },
        name_span: name.span,
        at_span: at.span,
        for_span: lasts.map(|found| found.span),
        commits_span: commits.flatten().map(|found| found.span),
    })
}

fn misplaced(key: &Misplaced<'_>) -> Problem {
    if key.key == FOR.name {
        let message = format!("a fault of kind `{}` happens at one moment", key.kind);
        return Problem::new(key.value_span.clone(), message, "has no duration")
            .help("remove `for`".to_owned());
    }
    key.problem(format!(
        "`{}` belongs to faults of kind {}; this one is `{}`",
        key.key, key.owners, key.kind
    ))
}
