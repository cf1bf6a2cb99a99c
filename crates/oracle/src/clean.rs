//! C: what a borrower finds on a connection that it just got.

/// Asked by a subject as one *simple* query right after it got a connection, outside any
/// transaction of its own. Answers one row with one text column, a JSON object.
///
/// `now() = statement_timestamp()` tells an open transaction from the implicit one of this very
/// statement: in the simple protocol both are stamped once. An assigned xid alone would miss a
/// transaction that has not written yet.
pub const CLEAN_PROBE_SQL: &str = "select json_build_object(\
'in_transaction', now() <> statement_timestamp(), \
'xid_assigned', pg_current_xact_id_if_assigned() is not null, \
'advisory_locks', (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'), \
'temp_tables', (select count(*) from pg_class where relnamespace = pg_my_temp_schema()), \
'listens', (select count(*) from pg_listening_channels()), \
'cursors', (select count(*) from pg_cursors where is_holdable), \
'settings', (select coalesce(json_agg(name order by name), '[]'::json) from pg_settings where source = 'session')\
)::text";
