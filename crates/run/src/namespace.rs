//! The run's own schema: made before the load, read afterwards, dropped at the end.
//!
//! Everything a run writes lies in the schema `poolproof_<run id>`. While a run lives it holds an
//! advisory lock on that name ([`Claim`]), so that the next run can tell what a killed one left from
//! what a live neighbour uses.

use std::collections::BTreeMap;
use std::time::Duration;

use poolproof_load::{
    BANK_ACCOUNTS_READ_SQL, BANK_SUM_READ_SQL, OP_LOG_READ_SQL, OP_LOG_SCHEMA_SQL, Workload,
};
use poolproof_oracle::{BankSnapshot, Store};
use poolproof_testbed::{Admin, AdminError};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tokio::time::Instant;

use crate::claim::{Claim, ClaimError, connection_name};
use crate::error::chain;

pub(crate) const PREFIX: &str = "poolproof_";

/// The run's schema, and the claim on it.
pub(crate) struct Namespace {
    schema: String,
    claim: Claim,
    /// What became of schemas that killed runs had left.
    swept: Vec<String>,
}

/// Why the run's tables could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The run cannot be sure of what it would own.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The server refused a statement.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl From<AdminError> for CreateError {
    fn from(error: AdminError) -> Self {
        Self::Claim(error.into())
    }
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

    /// Makes the schema and its tables, after removing what killed runs left. `subject` is the
    /// `application_name` of the subject's connections.
    ///
    /// Nothing is written before it is certain that names will lead into the schema and that the lock
    /// on it is held.
    pub(crate) async fn create(
        options: &PgConnectOptions,
        schema: &str,
        subject: &str,
        workloads: &[Workload],
    ) -> Result<Self, CreateError> {
        let claim = Claim::stake(&in_schema(options, schema), schema, subject).await?;
        let mut namespace = Self {
            schema: schema.to_owned(),
            claim,
            swept: Vec::new(),
        };
        match namespace.fill(workloads).await {
            Ok(()) => Ok(namespace),
            Err(error) => {
                // The error is what the user has to know; what stays goes with the next run.
                drop(namespace.remove().await);
                Err(error)
            }
        }
    }

    async fn fill(&mut self, workloads: &[Workload]) -> Result<(), CreateError> {
        let connection = self.claim.admin.connection().await?;
        self.swept = drop_abandoned(connection).await?;
        // In one transaction: whole or not at all.
        run_sql(connection, "begin".to_owned()).await?;
        run_sql(connection, format!("create schema {}", self.schema)).await?;
        let marked = format!("comment on schema {} is '{MARK}'", self.schema);
        run_sql(connection, marked).await?;
        for sql in OP_LOG_SCHEMA_SQL {
            run_sql(connection, sql.to_owned()).await?;
        }
        for sql in workloads.iter().flat_map(Workload::schema_sql) {
            run_sql(connection, sql).await?;
        }
        run_sql(connection, "commit".to_owned()).await?;
        Ok(self.claim.adopt().await?)
    }

    /// Proves that the schema is still the run's own.
    pub(crate) async fn prove(&mut self) -> Result<(), ClaimError> {
        self.claim.prove().await
    }

    /// Says what became of schemas that killed runs had left.
    pub(crate) fn swept(&self) -> &[String] {
        &self.swept
    }

    /// Returns the most connections of the subject that a proof showed at one time.
    pub(crate) fn backends_peak(&self) -> u64 {
        self.claim.backends_peak
    }

    /// Returns since when the server may have anything of the run, by its own clock in microseconds.
    pub(crate) fn since_us(&self) -> i64 {
        self.claim.since_us
    }

    /// Returns how often its connection was lost and opened again.
    pub(crate) fn reconnects(&self) -> u32 {
        self.claim.admin.reconnects()
    }

    /// Reads every table of the run.
    pub(crate) async fn read(&mut self, workloads: &[Workload]) -> Result<Store, AdminError> {
        let admin = &mut self.claim.admin;
        let mut store = Store {
            op_log: counts(admin, OP_LOG_READ_SQL).await?,
            ..Store::default()
        };
        for workload in workloads {
            if let Workload::Bank { .. } = workload {
                store.accounts = accounts(admin).await?;
            }
            for sql in workload.write_set_read_sql() {
                store.write_sets.push(counts(admin, sql).await?);
            }
        }
        Ok(store)
    }

    /// Drops the schema and all that is in it, unless it is not the run's own any more.
    pub(crate) async fn remove(mut self) -> Result<(), CreateError> {
        match self.claim.prove().await {
            Ok(()) => {}
            Err(ClaimError::Dropped { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let connection = self.claim.admin.connection().await?;
        let sql = format!("drop schema if exists {} cascade", self.schema);
        run_sql(connection, sql).await?;
        self.claim.admin.disconnect().await;
        Ok(())
    }
}

/// Watches the bank while the run is on, straight from the server.
pub(crate) struct BankReader {
    admin: Admin,
}

impl BankReader {
    pub(crate) async fn connect(
        options: &PgConnectOptions,
        schema: &str,
    ) -> Result<Self, AdminError> {
        let name = connection_name(schema, "bank");
        Ok(Self {
            admin: Admin::connect_as(in_schema(options, schema), &name).await?,
        })
    }

    /// Returns how often its connection was lost and opened again.
    pub(crate) fn reconnects(&self) -> u32 {
        self.admin.reconnects()
    }

    /// Reads the bank in one snapshot.
    ///
    /// # Cancel safety
    /// Safe. The connection is opened again for the next one.
    pub(crate) async fn snapshot(&mut self, at_us: u64) -> Result<BankSnapshot, AdminError> {
        let what = "the bank's total";
        let rows = self.admin.ask(what, BANK_SUM_READ_SQL, &[]).await?;
        let read = |row: &PgRow| -> Result<BankSnapshot, sqlx::Error> {
            Ok(BankSnapshot {
                at_us,
                accounts: row.try_get::<i64, _>(0)?.unsigned_abs(),
                total: row.try_get(1)?,
            })
        };
        let row = rows.first().ok_or(sqlx::Error::RowNotFound);
        row.and_then(read)
            .map_err(|source| AdminError::Ask { what, source })
    }
}

async fn accounts(admin: &mut Admin) -> Result<BTreeMap<u32, i64>, AdminError> {
    let what = "the bank's accounts";
    let rows = admin.ask(what, BANK_ACCOUNTS_READ_SQL, &[]).await?;
    rows.iter()
        .map(|row| {
            let account: i32 = row.try_get(0)?;
            Ok((account.unsigned_abs(), row.try_get(1)?))
        })
        .collect::<Result<_, _>>()
        .map_err(|source| AdminError::Ask { what, source })
}

async fn counts(admin: &mut Admin, sql: &'static str) -> Result<BTreeMap<u64, u64>, AdminError> {
    let what = "the ops that are in the tables";
    let rows = admin.ask(what, sql, &[]).await?;
    rows.iter()
        .map(|row: &PgRow| {
            let (op, count): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok((op.unsigned_abs(), count.unsigned_abs()))
        })
        .collect::<Result<_, _>>()
        .map_err(|source| AdminError::Ask { what, source })
}

/// Returns `options` with the run's schema as the search path, set at connect.
pub(crate) fn in_schema(options: &PgConnectOptions, schema: &str) -> PgConnectOptions {
    options
        .clone()
        .options([("search_path", schema)])
        .disable_statement_logging()
}

/// What a run writes on its schema. Only what bears it may be swept: a name alone proves nothing.
const MARK: &str =
    "made by poolproof for one run, which drops it; the next run sweeps what a killed one left";

/// Schemas that bear our mark (`$1`) and whose lock is free, which is then held, and whether a connection
/// of their run lives. `case` fixes the order: only a schema of ours may have its lock tried. What belongs
/// to another role is that role's to drop.
const ABANDONED_SQL: &str = "select nspname::text, exists (select from pg_stat_activity \
    where application_name like 'poolproof/' || substr(nspname, 11) || '/%') \
    from pg_namespace where case when nspname ~ '^poolproof_[0-9a-f]{8,}$' \
    and obj_description(oid, 'pg_namespace') = $1 and pg_has_role(nspowner, 'usage') \
    then pg_try_advisory_lock(hashtextextended(nspname::text, 0)) else false end";

/// How long a sweep waits for what somebody does in an abandoned schema.
const SWEEP_LOCK: &str = "set local lock_timeout = '1s'";

/// How long the server is given to notice that the connections of a killed run are gone.
const LAST_BREATH: Duration = Duration::from_secs(2);
/// How often it is looked at until then.
const LOOK: Duration = Duration::from_millis(50);

/// Drops the schemas of runs that no longer hold their lock and have no other connection either: a run
/// that lives can lose the one that holds it, and takes the lock again. Returns what it did, for the
/// reader.
async fn drop_abandoned(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let mut told = Vec::new();
    let until = Instant::now() + LAST_BREATH;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let mut alive = false;
        let abandoned = sqlx::query(ABANDONED_SQL).persistent(false).bind(MARK);
        for row in abandoned.fetch_all(&mut *connection).await? {
            let schema: String = row.try_get(0)?;
            if row.try_get(1)? {
                alive = true;
            } else {
                told.push(sweep(connection, &schema).await);
            }
            sqlx::query("select pg_advisory_unlock(hashtextextended($1, 0))")
                .persistent(false)
                .bind(&schema)
                .execute(&mut *connection)
                .await?;
        }
        if !alive || Instant::now() >= until {
            told.sort();
            told.dedup();
            return Ok(told);
        }
    }
}

/// Drops one schema, and says what came of it.
async fn sweep(connection: &mut PgConnection, schema: &str) -> String {
    let drop = async {
        let mut transaction = connection.begin().await?;
        run_sql(&mut transaction, SWEEP_LOCK.to_owned()).await?;
        let sql = format!("drop schema if exists {schema} cascade");
        run_sql(&mut transaction, sql).await?;
        transaction.commit().await
    };
    match drop.await {
        Ok(()) => format!("schema {schema}, which a killed run had left, was dropped"),
        Err(error) => format!(
            "schema {schema}, which a killed run had left, stays: {}",
            chain(&error)
        ),
    }
}

async fn run_sql(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    connection.execute(AssertSqlSafe(sql)).await.map(drop)
}
