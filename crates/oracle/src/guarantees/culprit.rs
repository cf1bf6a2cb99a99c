//! Evidence names the op that is to blame, and how that op ended.

use crate::{Ending, ErrorCategory, OpRecord, Outcome};

/// An op as part of a sentence, with a comma at its end: `op 3598 (write-set), cancelled,`.
pub(super) fn described(op: &OpRecord) -> String {
    format!("op {} ({}), {},", op.id, op.workload, end_of(op))
}

/// Who had a backend last, to be put behind what was found there; empty when nobody knows.
pub(super) fn had_it_last(pid: i32, ops: &[OpRecord]) -> String {
    let uses = ops.iter().filter(|op| op.backend_pid == Some(pid));
    let last = uses.max_by_key(|op| op.acquired_us);
    last.map_or_else(String::new, |op| format!("; {} had it last", described(op)))
}

/// How an op ended, in words.
fn end_of(op: &OpRecord) -> String {
    if op.ended_us.is_none() {
        return "never ended".to_owned();
    }
    let category = op.error.as_ref().map(|error| error.category);
    match (op.outcome, category) {
        (Outcome::Ok, _) if op.ending == Ending::Rollback => "rolled back".to_owned(),
        (Outcome::Ok, _) => "committed".to_owned(),
        (Outcome::Info, Some(ErrorCategory::Cancelled)) => "cancelled at COMMIT".to_owned(),
        (Outcome::Info, _) => "in doubt".to_owned(),
        (_, Some(ErrorCategory::Cancelled)) => "cancelled".to_owned(),
        (_, Some(ErrorCategory::Panicked)) => "panicked".to_owned(),
        (_, Some(ErrorCategory::Deadline)) => "timed out".to_owned(),
        (_, Some(category)) => format!("failed ({})", category.as_str()),
        (_, None) => "failed".to_owned(),
    }
}
