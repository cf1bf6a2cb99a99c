//! C: whoever gets a connection finds nothing of whoever had it before.

use std::collections::BTreeMap;

use super::culprit::described;
use super::tally::Tally;
use crate::clean::CleanProbe;
use crate::figures::{Seconds, counted};
use crate::{ErrorCategory, Guarantee, GuaranteeResult, Observations, OpRecord};

/// Settings that say nothing about a former borrower, in lower case and in order.
///
/// Drivers and poolers `SET` the session's text formats right after connecting (sqlx sends them in
/// its startup message, where they do not count as session settings at all). `transaction_*` belong
/// to the current transaction, yet keep the source `session` after a `SET TRANSACTION` was
/// committed; the server resets their values with each transaction.
const ALLOWED_SETTINGS: [&str; 11] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "standard_conforming_strings",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
];

/// `in_failed_sql_transaction`: the connection was inside an aborted transaction.
const IN_FAILED_TRANSACTION: &str = "25P02";

/// How much of an answer that cannot be read is shown.
const ANSWER_CHARS: usize = 80;

/// Checks each answer to [`crate::CLEAN_PROBE_SQL`], one fact per answer.
///
/// A role is foreign when it differs from the one that most answers show, because all connections
/// of a subject log in alike. An answer that cannot be read is a violation, and so is an op that
/// was refused with 25P02 before it could do anything wrong itself.
pub(super) fn clean_checkout(observations: &Observations<'_>) -> GuaranteeResult {
    let answers: Vec<(&OpRecord, Answer)> = observations
        .ops
        .iter()
        .filter_map(|op| Some((op, answer(op)?)))
        .collect();
    let role = usual_role(&answers);
    let mut tally = Tally::default();
    let line = |op: &OpRecord, found: &str| line(op, found, observations.ops);
    for (op, answer) in &answers {
        match answer {
            Answer::Told(probe) => {
                let found = leftovers(probe, role);
                tally.fact(found.is_empty(), || line(op, &found.join(", ")));
            }
            Answer::Refused => {
                tally.violation(|| line(op, "an aborted transaction was open (25P02)"));
            }
            Answer::Unreadable(error) => tally.violation(|| line(op, &unreadable(op, error))),
        }
    }
    let answered = u64::try_from(answers.len()).unwrap_or(u64::MAX);
    let summary = format!(
        "{} asked for transactions, locks, temporary objects, listens, cursors, settings and role",
        counted(answered, "checkout")
    );
    if answers.is_empty() {
        return tally.conclude_void(Guarantee::C, summary, "no clean probe was answered");
    }
    tally.conclude(Guarantee::C, summary)
}

/// What a connection said of its state.
enum Answer {
    Told(CleanProbe),
    Refused,
    Unreadable(serde_json::Error),
}

fn answer(op: &OpRecord) -> Option<Answer> {
    let told = op.clean_probe.as_deref().map(serde_json::from_str);
    match told {
        Some(Ok(probe)) => Some(Answer::Told(probe)),
        // A subject may keep the text of the refusal as the answer, or keep none.
        _ if inherited_an_aborted_transaction(op) => Some(Answer::Refused),
        Some(Err(error)) => Some(Answer::Unreadable(error)),
        None => None,
    }
}

/// The role that most answers show; of equally frequent ones the first by name.
fn usual_role<'a>(answers: &'a [(&OpRecord, Answer)]) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, answer) in answers {
        if let Answer::Told(probe) = answer {
            *counts.entry(&probe.role).or_default() += 1;
        }
    }
    let most = counts.values().copied().max()?;
    counts
        .into_iter()
        .find_map(|(role, count)| (count == most).then_some(role))
}

fn leftovers(probe: &CleanProbe, usual_role: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    match (probe.in_transaction, probe.xid_assigned) {
        (true, true) => found.push("a transaction that had written was open".to_owned()),
        (true, false) => found.push("a transaction was open".to_owned()),
        (false, true) => found.push("a transaction id was assigned".to_owned()),
        (false, false) => {}
    }
    for (count, noun) in [
        (probe.advisory_locks, "advisory lock"),
        (probe.temp_objects, "temporary object"),
        (probe.listens, "listened channel"),
        (probe.cursors, "open cursor"),
    ] {
        if count > 0 {
            found.push(counted(count, noun));
        }
    }
    for setting in &probe.settings {
        if ALLOWED_SETTINGS
            .binary_search(&setting.to_ascii_lowercase().as_str())
            .is_err()
        {
            found.push(format!("setting {setting} changed"));
        }
    }
    if usual_role.is_some_and(|usual| usual != probe.role) {
        found.push(format!("role {} instead of the usual one", probe.role));
    }
    found
}

/// Whether the very first thing that the op sent was refused because of somebody else's failure.
///
/// An op's own failure shows its own SQLSTATE, and 25P02 in answer to COMMIT is `RolledBack`.
fn inherited_an_aborted_transaction(op: &OpRecord) -> bool {
    op.commit_sent_us.is_none()
        && op.error.as_ref().is_some_and(|error| {
            error.sqlstate.as_deref() == Some(IN_FAILED_TRANSACTION)
                && error.category != ErrorCategory::RolledBack
        })
}

fn unreadable(op: &OpRecord, error: &serde_json::Error) -> String {
    let answer = op.clean_probe.as_deref().unwrap_or_default();
    let shown: String = answer.chars().take(ANSWER_CHARS).collect();
    format!("the answer {shown:?} cannot be read: {error}")
}

/// What was found, where, and who had that connection before.
fn line(op: &OpRecord, found: &str, ops: &[OpRecord]) -> String {
    let at = op.acquired_us.unwrap_or(op.started_us);
    let backend = op.backend_pid.map(|pid| format!(" on backend {pid}"));
    format!(
        "op {} ({}) at {}{}: {found}{}",
        op.id,
        op.workload,
        Seconds(at),
        backend.unwrap_or_default(),
        had_it_before(op, ops)
    )
}

fn had_it_before(op: &OpRecord, ops: &[OpRecord]) -> String {
    let Some(id) = op.previous_op else {
        return match op.backend_pid {
            Some(_) => "; no op had it before".to_owned(),
            None => String::new(),
        };
    };
    match ops.iter().find(|op| op.id == id) {
        Some(previous) => format!("; {} had it before", described(previous)),
        None => format!("; op {id} had it before"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ALLOWED_SETTINGS, clean_checkout};
    use crate::fixture::{
        CLEAN_ANSWER, World, cancelled, cancelled_in_doubt, committed, error, failed, in_doubt,
        panicked, rolled_back,
    };
    use crate::{ErrorCategory, GuaranteeStatus, OpError, OpRecord};

    fn probed(id: u64, answer: &str) -> OpRecord {
        OpRecord {
            clean_probe: Some(answer.into()),
            ..committed(id)
        }
    }

    fn altered(from: &str, to: &str) -> String {
        let answer = CLEAN_ANSWER.replace(from, to);
        assert_ne!(answer, CLEAN_ANSWER, "{from} is not in the answer");
        answer
    }

    #[test]
    fn allowed_settings_can_be_searched_by_halves() {
        assert!(ALLOWED_SETTINGS.is_sorted());
    }

    #[test]
    fn clean_answers_keep_c() {
        let world = World::with_ops([
            probed(0, CLEAN_ANSWER),
            committed(1),
            probed(2, CLEAN_ANSWER),
        ]);
        let result = clean_checkout(&world.observations());
        assert_eq!(result.status, GuaranteeStatus::Held);
        assert_eq!(result.checked, 2);
        assert_eq!(
            result.summary,
            "2 checkouts asked for transactions, locks, temporary objects, listens, cursors, \
             settings and role"
        );
    }

    #[test]
    fn what_drivers_set_at_connect_is_no_leftover() {
        let answer = altered(
            "[]",
            r#"["DateStyle", "IntervalStyle", "TimeZone", "client_encoding", "transaction_read_only"]"#,
        );
        let world = World::with_ops([probed(0, &answer)]);
        assert_eq!(
            clean_checkout(&world.observations()).status,
            GuaranteeStatus::Held
        );
    }

    #[test]
    fn each_leftover_is_caught_and_named() {
        let planted = [
            (
                r#""in_transaction" : false"#,
                r#""in_transaction" : true"#,
                "a transaction was open",
            ),
            (
                r#""in_transaction" : false, "xid_assigned" : false"#,
                r#""in_transaction" : true, "xid_assigned" : true"#,
                "a transaction that had written was open",
            ),
            (
                r#""xid_assigned" : false"#,
                r#""xid_assigned" : true"#,
                "a transaction id was assigned",
            ),
            (
                r#""advisory_locks" : 0"#,
                r#""advisory_locks" : 1"#,
                "1 advisory lock",
            ),
            (
                r#""temp_objects" : 0"#,
                r#""temp_objects" : 2"#,
                "2 temporary objects",
            ),
            (r#""listens" : 0"#, r#""listens" : 1"#, "1 listened channel"),
            (r#""cursors" : 0"#, r#""cursors" : 1"#, "1 open cursor"),
            (
                "[]",
                r#"["TimeZone", "search_path"]"#,
                "setting search_path changed",
            ),
            (
                r#""role" : "app""#,
                r#""role" : "admin""#,
                "role admin instead of the usual one",
            ),
        ];
        for (from, to, found) in planted {
            let world = World::with_ops([
                probed(1, CLEAN_ANSWER),
                probed(2, CLEAN_ANSWER),
                probed(3, &altered(from, to)),
            ]);
            let result = clean_checkout(&world.observations());
            assert_eq!(result.status, GuaranteeStatus::Violated, "{found}");
            assert_eq!(
                result.evidence,
                [format!("op 3 (bank) at 0.301 s: {found}")]
            );
            assert_eq!((result.checked, result.violations), (3, 1));
        }
    }

    #[test]
    fn the_evidence_names_the_backend_and_the_op_that_had_it_before() {
        let dirty = altered(r#""in_transaction" : false"#, r#""in_transaction" : true"#);
        let found = |previous: Option<OpRecord>, pid| {
            let op = OpRecord {
                backend_pid: pid,
                previous_op: previous.as_ref().map(|op| op.id),
                ..probed(3, &dirty)
            };
            let world = World::with_ops(previous.into_iter().chain([op]));
            clean_checkout(&world.observations()).evidence.remove(0)
        };
        let never_ended = OpRecord {
            ended_us: None,
            ..cancelled(1)
        };
        let ends = [
            (cancelled(1), "cancelled"),
            (panicked(1), "panicked"),
            (failed(1), "failed (connection)"),
            (in_doubt(1), "in doubt"),
            (cancelled_in_doubt(1), "cancelled at COMMIT"),
            (committed(1), "committed"),
            (rolled_back(1), "rolled back"),
            (never_ended, "never ended"),
        ];
        for (previous, end) in ends {
            assert_eq!(
                found(Some(previous), Some(4711)),
                format!(
                    "op 3 (bank) at 0.301 s on backend 4711: a transaction was open; \
                     op 1 (bank), {end}, had it before"
                )
            );
        }
        assert_eq!(
            found(None, Some(4711)),
            "op 3 (bank) at 0.301 s on backend 4711: a transaction was open; no op had it before"
        );
        assert_eq!(
            found(None, None),
            "op 3 (bank) at 0.301 s: a transaction was open"
        );
    }

    #[test]
    fn a_role_that_all_connections_log_in_with_is_no_leftover() {
        let answer = altered(r#""role" : "app""#, r#""role" : "admin""#);
        let world = World::with_ops([probed(0, &answer), probed(1, &answer)]);
        assert_eq!(
            clean_checkout(&world.observations()).status,
            GuaranteeStatus::Held
        );
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_a_violation_not_a_skip() {
        let unreadable = [
            "",
            "null",
            "{}",
            "{\"in_transaction\" : false",
            &altered(r#""advisory_locks" : 0"#, r#""advisory_locks" : null"#),
            &altered(r#""cursors" : 0, "#, ""),
            &altered(r#""cursors" : 0"#, r#""cursors" : 0, "mood" : 1"#),
        ];
        for answer in unreadable {
            let world = World::with_ops([probed(0, answer), probed(1, CLEAN_ANSWER)]);
            let result = clean_checkout(&world.observations());
            assert_eq!(result.status, GuaranteeStatus::Violated, "{answer}");
            let shown: String = answer.chars().take(80).collect();
            assert!(
                result.evidence[0].starts_with(&format!(
                    "op 0 (bank) at 0.001 s: the answer {shown:?} cannot be read: "
                )),
                "{:?}",
                result.evidence
            );
        }
    }

    #[test]
    fn an_op_that_met_an_aborted_transaction_is_a_violation() {
        let refused = OpRecord {
            error: Some(OpError {
                sqlstate: Some("25P02".into()),
                ..error(ErrorCategory::Other)
            }),
            ..failed(4)
        };
        // Some subjects keep the refusal as the answer.
        for answer in [
            None,
            Some("25P02: current transaction is aborted".to_owned()),
        ] {
            let refused = OpRecord {
                clean_probe: answer,
                ..refused.clone()
            };
            let world = World::with_ops([probed(0, CLEAN_ANSWER), refused]);
            assert_eq!(
                clean_checkout(&world.observations()).evidence,
                ["op 4 (bank) at 0.401 s: an aborted transaction was open (25P02)"]
            );
        }
    }

    #[test]
    fn an_own_failure_seen_at_commit_is_no_inherited_one() {
        let seen_at_commit = OpRecord {
            error: Some(OpError {
                sqlstate: Some("25P02".into()),
                ..error(ErrorCategory::RolledBack)
            }),
            ..failed(4)
        };
        let world = World::with_ops([probed(0, CLEAN_ANSWER), seen_at_commit, failed(5)]);
        assert_eq!(
            clean_checkout(&world.observations()).status,
            GuaranteeStatus::Held
        );
    }

    #[test]
    fn a_run_without_an_answer_is_void() {
        let world = World::with_ops([committed(0), failed(1)]);
        assert_eq!(
            clean_checkout(&world.observations()).status,
            GuaranteeStatus::Void("no clean probe was answered".into())
        );
    }
}
