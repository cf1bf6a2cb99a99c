//! What the table must hold: a stack of maps, one per open scope, and Postgres' rule that a failed
//! statement dooms its scope.

use std::collections::BTreeMap;

pub(super) type Rows = BTreeMap<String, i64>;

/// One task's view. The lowest layer is what is committed.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    below: Vec<Layer>,
    top: Layer,
    /// A statement was abandoned: nothing can run until the transaction is over.
    doomed: bool,
}

#[derive(Debug, Clone, Default)]
struct Layer {
    rows: Rows,
    failed: bool,
    owes: bool,
}

/// What a statement must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Fine,
    /// An earlier one of the scope failed.
    Aborted,
    /// An earlier one of the transaction was abandoned.
    Doomed,
    /// The server notices at COMMIT what it was owed.
    Refused,
}

impl Model {
    pub(super) fn rows(&self) -> &Rows {
        &self.top.rows
    }

    /// What is committed; within a transaction only.
    pub(super) fn committed(&self) -> &Rows {
        &self.below[0].rows
    }

    /// What any statement comes to now.
    pub(super) fn expected(&self) -> Expected {
        match (self.doomed, self.top.failed) {
            (true, _) => Expected::Doomed,
            (_, true) => Expected::Aborted,
            _ => Expected::Fine,
        }
    }

    /// What COMMIT comes to now.
    pub(super) fn expected_of_commit(&self) -> Expected {
        match self.expected() {
            Expected::Fine if self.top.owes => Expected::Refused,
            other => other,
        }
    }

    pub(super) fn write(&mut self, key: &str, add: i64) {
        if self.expected() == Expected::Fine {
            *self.top.rows.entry(key.to_owned()).or_default() += add;
        }
    }

    pub(super) fn owe(&mut self) {
        self.top.owes |= self.expected() == Expected::Fine;
    }

    pub(super) fn fail(&mut self) {
        self.top.failed = true;
    }

    pub(super) fn abandon(&mut self) {
        self.doomed = true;
    }

    /// Begins a transaction or sets a savepoint.
    pub(super) fn enter(&mut self) {
        self.below.push(self.top.clone());
    }

    /// Commits, or releases the savepoint.
    pub(super) fn keep(&mut self) {
        self.below.pop();
        self.top.owes &= !self.below.is_empty();
    }

    /// Rolls back, or back to the savepoint.
    pub(super) fn undo(&mut self) {
        self.top = self.below.pop().unwrap();
        self.doomed &= !self.below.is_empty();
    }
}
