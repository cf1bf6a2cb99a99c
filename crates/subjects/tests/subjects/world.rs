//! A server, tables, ops, and what is to be seen of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use poolproof_load::{OP_LOG_READ_SQL, OP_LOG_SCHEMA_SQL, OpEnd, Subject, Trace, Workload};
use poolproof_oracle::{Effect, Ending, Op, Statement};
use poolproof_subjects::{SubjectConfig, SubjectKind, build};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};
use tokio::time::Instant;

use crate::relay::Relay;

/// What nothing here takes, however slow the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const APPLICATION: &str = "poolproof/subjects";
pub(crate) const OPENING_BALANCE: i64 = 1_000;

pub(crate) struct World {
    admin: PgPool,
    pub(crate) relay: Relay,
    cluster: Cluster,
}

impl World {
    /// A server with empty tables, reached through a relay.
    pub(crate) async fn start() -> Self {
        let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
        let admin = PgPoolOptions::new()
            .max_connections(1)
            .connect_with(cluster.options())
            .await
            .unwrap();
        let world = Self {
            relay: Relay::to(cluster.port()).await,
            admin,
            cluster,
        };
        world.create_tables().await;
        world
    }

    async fn create_tables(&self) {
        let bank = Workload::Bank {
            accounts: 4,
            opening_balance: OPENING_BALANCE,
        };
        let write_set = Workload::WriteSet { tables: 2 };
        for text in OP_LOG_SCHEMA_SQL {
            self.run_sql(text.to_owned()).await;
        }
        for text in bank.schema_sql().into_iter().chain(write_set.schema_sql()) {
            self.run_sql(text).await;
        }
        let deferred = "create table at_commit (op bigint unique deferrable initially deferred)";
        self.run_sql(deferred.to_owned()).await;
    }

    async fn run_sql(&self, text: String) {
        sqlx::raw_sql(AssertSqlSafe(text))
            .execute(&self.admin)
            .await
            .unwrap();
    }

    /// The configuration that the tests share: 2 + 1 connections through the relay.
    pub(crate) fn config(&self) -> SubjectConfig {
        SubjectConfig {
            options: self
                .cluster
                .options()
                .port(self.relay.port())
                .application_name(APPLICATION),
            pool_size: 2,
            max_overflow: 1,
            pool_timeout: PATIENCE,
            pre_ping: false,
        }
    }

    pub(crate) async fn subject(&self, kind: SubjectKind) -> Arc<dyn Subject> {
        build(kind, self.config()).await.unwrap()
    }

    /// Empties the op log and the write sets; gives each account its opening balance.
    pub(crate) async fn reset_tables(&self) {
        self.run_sql(format!(
            "truncate op_log, write_set_0, write_set_1, at_commit; \
             update bank_account set balance = {OPENING_BALANCE}"
        ))
        .await;
    }

    /// How often each op is in the op log.
    pub(crate) async fn op_log(&self) -> BTreeMap<i64, i64> {
        self.pairs(OP_LOG_READ_SQL).await
    }

    /// How often each op is in each write-set table.
    pub(crate) async fn write_sets(&self) -> Vec<BTreeMap<i64, i64>> {
        let mut sets = Vec::new();
        for sql in (Workload::WriteSet { tables: 2 }).write_set_read_sql() {
            sets.push(self.pairs(sql).await);
        }
        sets
    }

    /// The balance of each account.
    pub(crate) async fn balances(&self) -> BTreeMap<i64, i64> {
        self.pairs("select account::bigint, balance from bank_account")
            .await
    }

    async fn pairs(&self, sql: &'static str) -> BTreeMap<i64, i64> {
        let rows = sqlx::query(sql).fetch_all(&self.admin).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// The `state` of each backend of the subject, sorted.
    pub(crate) async fn backends(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select coalesce(state, '') from pg_stat_activity where application_name = $1 order by 1",
        )
        .bind(APPLICATION)
        .fetch_all(&self.admin)
        .await
        .unwrap()
    }

    /// The process ids of the subject's backends; one that was closed may still be among them.
    pub(crate) async fn pids(&self) -> Vec<i32> {
        sqlx::query_scalar("select pid from pg_stat_activity where application_name = $1")
            .bind(APPLICATION)
            .fetch_all(&self.admin)
            .await
            .unwrap()
    }

    /// Waits until a backend of the subject is done with `sql` and its transaction is open.
    pub(crate) async fn until_done_in_transaction(&self, sql: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let done: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where application_name = $1 \
                 and state = 'idle in transaction' and query = $2",
            )
            .bind(APPLICATION)
            .bind(sql)
            .fetch_one(&self.admin)
            .await
            .unwrap();
            if done > 0 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "no transaction rests after {sql}"
            );
            pause().await;
        }
    }

    /// Terminates the subject's backends once one of them holds the transaction of `op`.
    pub(crate) async fn terminate_after(&self, op: &Op) {
        self.until_done_in_transaction(&op.statements.last().unwrap().sql)
            .await;
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1",
        )
        .bind(APPLICATION)
        .execute(&self.admin)
        .await
        .unwrap();
    }

    /// Waits until the subject's backends are in exactly these states.
    pub(crate) async fn until_backends(&self, states: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.backends().await;
            if seen == states {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "expected {states:?}, there is {seen:?}"
            );
            pause().await;
        }
    }
}

/// Executes an op to its end.
pub(crate) async fn run(subject: &Arc<dyn Subject>, op: &Op) -> OpEnd {
    subject.execute(op, &Trace::new(Instant::now())).await
}

/// A commit of a write set; change what differs.
pub(crate) fn write_set(id: u64) -> Op {
    let key = id.cast_signed();
    Op {
        workload: Cow::Borrowed("write-set"),
        statements: vec![
            statement("insert into op_log (op) values ($1)", &[key]),
            statement("insert into write_set_0 (op) values ($1)", &[key]),
            statement("insert into write_set_1 (op) values ($1)", &[key]),
        ],
        effect: Effect::WriteSet { tables: 2 },
        ..template(id)
    }
}

/// A commit of a transfer of 7 from account 0 to account 1.
pub(crate) fn transfer(id: u64) -> Op {
    let update = "update bank_account set balance = balance + $1 where account = $2";
    Op {
        workload: Cow::Borrowed("bank"),
        statements: vec![
            statement("insert into op_log (op) values ($1)", &[id.cast_signed()]),
            statement(update, &[-7, 0]),
            statement(update, &[7, 1]),
        ],
        effect: Effect::Transfer {
            from: 0,
            to: 1,
            amount: 7,
        },
        ..template(id)
    }
}

pub(crate) fn ending(op: Op, ending: Ending) -> Op {
    Op { ending, ..op }
}

/// Holds its transaction open until it is dropped, and would never run into its deadline.
pub(crate) fn holding(op: Op) -> Op {
    Op {
        hold_us: 3_600_000_000,
        deadline_us: 3_600_000_000,
        ..op
    }
}

pub(crate) fn statement(sql: &'static str, params: &[i64]) -> Statement {
    Statement {
        sql: Cow::Borrowed(sql),
        params: params.to_vec(),
    }
}

fn template(id: u64) -> Op {
    Op {
        id,
        at_us: 0,
        deadline_us: 60_000_000,
        workload: Cow::Borrowed(""),
        statements: Vec::new(),
        hold_us: 0,
        ending: Ending::Commit,
        check_clean: false,
        effect: Effect::WriteSet { tables: 0 },
    }
}

pub(crate) async fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "between two looks at a condition"
    )]
    tokio::time::sleep(Duration::from_millis(5)).await;
}
