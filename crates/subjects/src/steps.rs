//! The steps of an op that are the same on every connection of sqlx.

use std::time::Duration;

use poolproof_load::Trace;
use poolproof_oracle::{CLEAN_PROBE_SQL, Op};
use sqlx::{AssertSqlSafe, PgConnection, Row};

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
            if let Some(refusal) = transaction_state_error(&error) {
                trace.set_clean_probe(refusal);
            }
            Err(error)
        }
    }
}

/// Executes the op's statements in their order and then holds the transaction open.
pub(crate) async fn work(connection: &mut PgConnection, op: &Op) -> Result<(), sqlx::Error> {
    for statement in &op.statements {
        // The text is the workload's own, and its values are bound.
        let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone()));
        for param in &statement.params {
            query = query.bind(*param);
        }
        query.execute(&mut *connection).await?;
    }
    hold(op).await;
    Ok(())
}

/// Waits as long as the op holds its transaction open.
pub(crate) async fn hold(op: &Op) {
    if op.hold_us > 0 {
        #[expect(clippy::disallowed_methods, reason = "the pause is the op's content")]
        tokio::time::sleep(Duration::from_micros(op.hold_us)).await;
    }
}

fn transaction_state_error(error: &sqlx::Error) -> Option<String> {
    let server = error.as_database_error()?;
    let code = server.code()?;
    code.starts_with("25")
        .then(|| format!("{code}: {}", server.message()))
}
