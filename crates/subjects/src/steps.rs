//! The steps of an op that are the same on every connection of sqlx.

use std::time::Duration;

use poolproof_load::Trace;
use poolproof_oracle::{CLEAN_PROBE_SQL, Op, Statement};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};

/// Whether the op asks its connection first whether it is clean: it is in the sample, or the
/// connection is suspect.
pub(crate) fn probes(op: &Op, trace: &Trace) -> bool {
    op.check_clean || trace.is_suspect()
}

/// Asks the connection whether it is clean and keeps the answer in `trace`.
///
/// In the simple protocol, as the probe needs it. A connection whose transaction is already
/// aborted cannot answer (class 25); that refusal is kept as the answer, for it is one.
pub(crate) async fn probe(connection: &mut PgConnection, trace: &Trace) -> Result<(), sqlx::Error> {
    let answer = sqlx::raw_sql(CLEAN_PROBE_SQL)
        .fetch_one(connection)
        .await
        .and_then(|row| row.try_get::<String, _>(0));
    match answer {
        Ok(text) => {
            trace.set_clean_probe(text);
            Ok(())
        }
        Err(error) => {
            note_refusal(&error, trace);
            Err(error)
        }
    }
}

/// Keeps the server's refusal to answer the probe, when it lies in the transaction's state.
pub(crate) fn note_refusal(error: &sqlx::Error, trace: &Trace) {
    if let Some(server) = error.as_database_error()
        && let Some(code) = server.code()
        && code.starts_with("25")
    {
        trace.set_clean_probe(format!("{code}: {}", server.message()));
    }
}

/// Executes the op's statements in their order and then holds the transaction open.
pub(crate) async fn work(connection: &mut PgConnection, op: &Op) -> Result<(), sqlx::Error> {
    for statement in &op.statements {
        query(statement).execute(&mut *connection).await?;
    }
    hold(op).await;
    Ok(())
}

/// Makes a query of a statement, which is prepared once per connection and text.
pub(crate) fn query(statement: &Statement) -> Query<'static, Postgres, PgArguments> {
    // The text is the workload's own, and its values are bound.
    let text = AssertSqlSafe(statement.sql.clone());
    let bind = |query: Query<'static, Postgres, PgArguments>, param: &i64| query.bind(*param);
    statement.params.iter().fold(sqlx::query(text), bind)
}

/// Waits as long as the op holds its transaction open.
pub(crate) async fn hold(op: &Op) {
    if op.hold_us > 0 {
        #[expect(clippy::disallowed_methods, reason = "the pause is the op's content")]
        tokio::time::sleep(Duration::from_micros(op.hold_us)).await;
    }
}
