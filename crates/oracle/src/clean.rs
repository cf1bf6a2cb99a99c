//! C: what a borrower finds on a connection that it just got.

use serde::Deserialize;

/// Asked by a subject as one *simple* query right after it got a connection, outside any
/// transaction of its own. Answers one row with one text column, a JSON object.
///
/// `now() <> statement_timestamp()` tells an open transaction from the implicit one of this very
/// statement: in the simple protocol both are stamped once. An assigned xid alone would miss a
/// transaction that has not written yet.
///
/// In an aborted transaction the server answers SQLSTATE 25P02 instead of a row; the judge takes
/// that error for an answer. Two leftovers cannot be seen in any query: a value of a custom
/// setting (`SET my.tenant`), which the server lists nowhere, and the state of `random()`.
///
/// Costs about 0.5 ms of server time on PostgreSQL 15, most of it for `pg_settings`.
pub const CLEAN_PROBE_SQL: &str = "select json_build_object(\
'in_transaction', now() <> statement_timestamp(), \
'xid_assigned', pg_current_xact_id_if_assigned() is not null, \
'advisory_locks', (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'), \
'temp_objects', (select count(*) from pg_depend where refclassid = 'pg_namespace'::regclass and refobjid = pg_my_temp_schema()), \
'listens', (select count(*) from pg_listening_channels()), \
'cursors', (select count(*) from pg_cursors where is_holdable), \
'settings', (select coalesce(json_agg(name order by name), '[]'::json) from pg_settings where source = 'session'), \
'role', current_user\
)::text";

/// The answer to [`CLEAN_PROBE_SQL`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanProbe {
    /// Whether a transaction was open before the probe.
    pub(crate) in_transaction: bool,
    /// Whether that transaction had written.
    pub(crate) xid_assigned: bool,
    /// Advisory locks that the session holds.
    pub(crate) advisory_locks: u64,
    /// Tables, views, sequences, types and functions in the session's temporary schema.
    pub(crate) temp_objects: u64,
    /// Channels that the session listens on.
    pub(crate) listens: u64,
    /// Cursors that outlive a transaction.
    pub(crate) cursors: u64,
    /// Names of the settings that `SET` changed in this session.
    pub(crate) settings: Vec<String>,
    /// The user that statements run as. `pg_settings` hides `role` and `session_authorization`.
    pub(crate) role: String,
}
