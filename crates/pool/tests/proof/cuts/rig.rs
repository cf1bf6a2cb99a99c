//! A pool on a relay on a server, and what must hold after every interruption.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use poolproof_pool::{Config, PgConnector, Pool, Transaction};
use poolproof_testbed::Cluster;
use sqlx::postgres::PgSslMode;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, Row};

use super::Stop;
use crate::cluster::cluster;
use crate::relay::Relay;

/// How long a condition is waited for. Generous: it is the test's failure and not a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Rig {
    pub(super) relay: Relay,
    pub(super) pool: Pool<PgConnector>,
    /// A direct connection.
    admin: PgConnection,
    /// The table, and the pool's `application_name`.
    pub(super) name: &'static str,
    config: Config,
    /// Counts the interruptions, each of which has rows of its own.
    pub(super) run: u32,
    cluster: Arc<Cluster>,
}

/// What may be stored after an interruption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reported {
    Rows(Vec<&'static str>),
    /// These or none.
    Unknown(Vec<&'static str>),
}

impl Rig {
    pub(super) async fn new(name: &'static str, config: Config) -> Self {
        let cluster = cluster().await;
        let mut admin = cluster.options().connect().await.unwrap();
        let table = format!("create table {name} (run bigint, v text)");
        admin.execute(AssertSqlSafe(table)).await.unwrap();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
        let relay = Relay::start(server).await;
        let pool = pool(&cluster, &relay, name, &config);
        Self {
            relay,
            pool,
            admin,
            name,
            config,
            run: 0,
            cluster,
        }
    }

    /// Replaces the pool by one that has opened nothing yet.
    pub(super) async fn renew(&mut self) {
        let report = self.pool.close(PATIENCE).await;
        assert!(
            report.holders.is_empty() && report.cut_short == 0,
            "{report:?}"
        );
        self.pool = pool(&self.cluster, &self.relay, self.name, &self.config);
    }

    pub(super) fn insert(&self, value: &str) -> sqlx::RawSql {
        insert(self.name, self.run, value)
    }

    /// Checks all that must hold, and goes on to the next run.
    pub(super) async fn aftermath(&mut self, stop: Stop, reported: &Reported) {
        self.at_rest(stop).await;
        self.next_borrower(stop).await;
        self.whole(stop).await;
        let stored = self.stored().await;
        let with_next = |rows: &[&str]| {
            let mut rows: Vec<String> = rows.iter().map(|row| (*row).to_owned()).collect();
            rows.push("next".to_owned());
            rows
        };
        match reported {
            Reported::Rows(rows) => assert_eq!(stored, with_next(rows), "{stop:?}"),
            Reported::Unknown(rows) => assert!(
                stored == with_next(rows) || stored == ["next"],
                "{stop:?}: {stored:?}"
            ),
        }
        self.run += 1;
    }

    /// Waits until nothing is under way, here and on the server.
    async fn at_rest(&mut self, stop: Stop) {
        let mut pause = tokio::time::interval(Duration::from_millis(2));
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let query = sqlx::query(
                    "select count(*), count(*) filter (where state = 'idle' and xact_start is null) \
                     from pg_stat_activity where application_name = $1",
                );
                let row = self.admin.fetch_one(query.bind(self.name)).await.unwrap();
                let (all, idle): (i64, i64) = (row.get(0), row.get(1));
                let now = self.pool.snapshot();
                let believed = i64::try_from(now.idle).unwrap();
                if now.out + now.opening + now.closing == 0 && (all, idle) == (believed, believed) {
                    return;
                }
                pause.tick().await;
            }
        });
        let waited = waited.await;
        assert!(
            waited.is_ok(),
            "{stop:?}: not at rest: {:?}",
            self.pool.snapshot()
        );
    }

    async fn next_borrower(&mut self, stop: Stop) {
        let mut session = self.pool.session().await.unwrap();
        let setting = session.fetch_simple_text("show work_mem").await.unwrap();
        assert_eq!(setting.as_deref(), Some("4MB"), "{stop:?}");
        let next = self.insert("next");
        let kept = session
            .transaction(async |tx: &mut Transaction<'_>| tx.execute(next).await)
            .await;
        assert!(kept.is_ok(), "{stop:?}: the next borrower: {kept:?}");
    }

    async fn whole(&mut self, stop: Stop) {
        let all = usize::try_from(self.config.max_connections().unwrap()).unwrap();
        let sessions = join_all((0..all).map(|_| self.pool.session()));
        let sessions = tokio::time::timeout(PATIENCE, sessions).await;
        for mut session in sessions.unwrap_or_else(|_| panic!("{stop:?}: a slot is lost")) {
            let session = session.as_mut().unwrap();
            session.execute("select 1").await.unwrap();
        }
    }

    async fn stored(&mut self) -> Vec<String> {
        let query = format!(
            "select v from {} where run = {} order by v",
            self.name, self.run
        );
        let rows = self.admin.fetch_all(AssertSqlSafe(query)).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

fn pool(cluster: &Cluster, relay: &Relay, name: &str, config: &Config) -> Pool<PgConnector> {
    let options = cluster
        .options()
        .application_name(name)
        .port(relay.port())
        .ssl_mode(PgSslMode::Disable);
    Pool::new(PgConnector::new(options), config.clone()).unwrap()
}

pub(super) fn insert(table: &str, run: u32, value: &str) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "insert into {table} values ({run}, '{value}')"
    )))
}
