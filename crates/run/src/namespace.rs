//! The run's own schema: made before the load, read afterwards, dropped at the end.
//!
//! Everything a run writes lies in the schema `poolproof_<run id>`. While a run lives it holds an
//! advisory lock on that name, so that the next run can tell what a killed one left from what a
//! live neighbour uses.

use std::collections::BTreeMap;

use poolproof_load::{
    BANK_ACCOUNTS_READ_SQL, BANK_SUM_READ_SQL, OP_LOG_READ_SQL, OP_LOG_SCHEMA_SQL, Workload,
};
use poolproof_oracle::{BankSnapshot, Store};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

const PREFIX: &str = "poolproof_";

/// The run's schema, and the connection that holds its lock.
pub(crate) struct Namespace {
    schema: String,
    tables: Tables,
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Namespace {
    /// Returns the name of a run's schema.
    pub(crate) fn schema_name(run_id: &str) -> String {
        format!("{PREFIX}{run_id}")
    }

    /// Makes the schema and its tables, after removing what killed runs left.
    pub(crate) async fn create(
        options: &PgConnectOptions,
        schema: &str,
        workloads: &[Workload],
    ) -> Result<Self, sqlx::Error> {
        let mut tables = Tables::connect(options, schema).await?;
        let connection = &mut tables.connection;
        sqlx::query("select pg_advisory_lock(hashtextextended($1, 0))")
            .bind(schema)
            .execute(&mut *connection)
            .await?;
        drop_abandoned(connection).await?;
        // In one transaction: whole or not at all.
        run_sql(connection, "begin".to_owned()).await?;
        run_sql(connection, format!("create schema {schema}")).await?;
        for sql in OP_LOG_SCHEMA_SQL {
            run_sql(connection, sql.to_owned()).await?;
        }
        for sql in workloads.iter().flat_map(Workload::schema_sql) {
            run_sql(connection, sql).await?;
        }
        run_sql(connection, "commit".to_owned()).await?;
        Ok(Self {
            schema: schema.to_owned(),
            tables,
        })
    }

    /// Reads every table of the run.
    pub(crate) async fn read(&mut self, workloads: &[Workload]) -> Result<Store, sqlx::Error> {
        self.tables.read(workloads).await
    }

    /// Drops the schema and all that is in it.
    pub(crate) async fn remove(mut self) -> Result<(), sqlx::Error> {
        let sql = format!("drop schema if exists {} cascade", self.schema);
        run_sql(&mut self.tables.connection, sql).await?;
        self.tables.connection.close().await
    }
}

/// Reads the run's tables, straight from the server.
pub(crate) struct Tables {
    connection: PgConnection,
}

impl Tables {
    pub(crate) async fn connect(
        options: &PgConnectOptions,
        schema: &str,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self {
            connection: in_schema(options, schema).connect().await?,
        })
    }

    /// Reads the bank in one snapshot.
    pub(crate) async fn bank_snapshot(&mut self, at_us: u64) -> Result<BankSnapshot, sqlx::Error> {
        let row = sqlx::query(BANK_SUM_READ_SQL)
            .fetch_one(&mut self.connection)
            .await?;
        let accounts: i64 = row.try_get(0)?;
        let total: i64 = row.try_get(1)?;
        Ok(BankSnapshot {
            at_us,
            accounts: accounts.unsigned_abs(),
            total,
        })
    }

    async fn read(&mut self, workloads: &[Workload]) -> Result<Store, sqlx::Error> {
        let mut store = Store {
            op_log: self.counts(OP_LOG_READ_SQL).await?,
            ..Store::default()
        };
        for workload in workloads {
            if let Workload::Bank { .. } = workload {
                store.accounts = self.accounts().await?;
            }
            for sql in workload.write_set_read_sql() {
                store.write_sets.push(self.counts(sql).await?);
            }
        }
        Ok(store)
    }

    async fn accounts(&mut self) -> Result<BTreeMap<u32, i64>, sqlx::Error> {
        let rows = sqlx::query(BANK_ACCOUNTS_READ_SQL)
            .fetch_all(&mut self.connection)
            .await?;
        rows.iter()
            .map(|row| {
                let account: i32 = row.try_get(0)?;
                Ok((account.unsigned_abs(), row.try_get(1)?))
            })
            .collect()
    }

    async fn counts(&mut self, sql: &'static str) -> Result<BTreeMap<u64, u64>, sqlx::Error> {
        let rows = sqlx::query(sql).fetch_all(&mut self.connection).await?;
        rows.iter()
            .map(|row: &PgRow| {
                let (op, count): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                Ok((op.unsigned_abs(), count.unsigned_abs()))
            })
            .collect()
    }
}

/// Returns `options` with the run's schema as the search path, set at connect.
pub(crate) fn in_schema(options: &PgConnectOptions, schema: &str) -> PgConnectOptions {
    options
        .clone()
        .options([("search_path", schema)])
        .disable_statement_logging()
}

/// Drops the schemas of runs that no longer hold their lock.
async fn drop_abandoned(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        // `case` fixes the order: only a schema of ours may have its lock tried. What belongs to
        // another role is that role's to drop.
        "select nspname::text from pg_namespace \
         where case when nspname ~ '^poolproof_[0-9a-f]{8,}$' \
         and pg_has_role(nspowner, 'usage') \
         then pg_try_advisory_lock(hashtextextended(nspname::text, 0)) else false end",
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let schema: String = row.try_get(0)?;
        run_sql(
            connection,
            format!("drop schema if exists {schema} cascade"),
        )
        .await?;
        sqlx::query("select pg_advisory_unlock(hashtextextended($1, 0))")
            .bind(&schema)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn run_sql(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(sql)).await.map(drop)
}
