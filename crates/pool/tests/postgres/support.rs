//! A server, a pool on it with a name of its own, and a direct connection that looks on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use poolproof_faults::{Proxies, ProxySpec, Stream, Toxic, ToxicSpec};
use poolproof_pool::{Config, PgConnector, Pool, Pooler, SessionConfig};
use poolproof_testbed::{Cluster, LocalConfig, PgBouncer, PoolMode};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, Row};

use crate::FRONT;

/// How long a condition is waited for. Generous: it is the test's failure and not a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Shared by the tests that run at the same time; the last one to end stops it.
static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());

/// A cluster, and what the test target puts in front of it.
pub(crate) struct Server {
    cluster: Arc<Cluster>,
    front: Option<PgBouncer>,
}

impl Server {
    pub(crate) async fn start(config: LocalConfig) -> Self {
        let cluster = Arc::new(Cluster::start(config).await.unwrap());
        let front = FRONT.map(|mode| {
            PgBouncer::start(Arc::clone(&cluster), mode).unwrap_or_else(|error| panic!("{error}"))
        });
        Self { cluster, front }
    }

    /// The way that clients take.
    pub(crate) fn options(&self) -> PgConnectOptions {
        let front = self.front.as_ref().map(PgBouncer::options);
        front.unwrap_or_else(|| self.direct())
    }

    /// The way past what stands in front.
    pub(crate) fn direct(&self) -> PgConnectOptions {
        self.cluster.options()
    }

    /// Where clients connect to.
    pub(crate) fn port(&self) -> u16 {
        self.front
            .as_ref()
            .map_or(self.cluster.port(), PgBouncer::port)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.cluster.log_file()).unwrap()
    }
}

/// What a test works with.
pub(crate) struct Bench {
    pub(crate) pool: Pool<PgConnector>,
    /// A direct connection.
    pub(crate) admin: PgConnection,
    /// The pool's `application_name`, and the table's name.
    pub(crate) name: &'static str,
    pub(crate) server: Arc<Server>,
    /// Where the pool connects to.
    pub(crate) options: PgConnectOptions,
    /// What stands between the pool and the server, if anything.
    proxies: Option<Proxies>,
}

/// The name of the one proxy.
const PROXY: &str = "server";

/// Long enough that no answer is there when a future is polled for the first time.
const DISTANCE: Toxic = Toxic::Latency {
    latency_ms: 3,
    jitter_ms: 0,
};

pub(crate) async fn server() -> Arc<Server> {
    let shared = || {
        let mut server = SERVER.lock().unwrap_or_else(|broken| broken.into_inner());
        server.upgrade().unwrap_or_else(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let started = Arc::new(runtime.block_on(Server::start(LocalConfig::default())));
            *server = Arc::downgrade(&started);
            started
        })
    };
    tokio::task::spawn_blocking(shared).await.unwrap()
}

impl Bench {
    /// A pool of one connection, and an empty table `name (v text)`.
    pub(crate) async fn single(name: &'static str) -> Self {
        Self::with(name, one_connection()).await
    }

    /// A pool of one connection whose sessions are set up like this, and an empty table.
    pub(crate) async fn sessions(name: &'static str, sessions: SessionConfig) -> Self {
        let mut bench = Self::single(name).await;
        bench.pool = bench.pool_of(sessions, one_connection());
        bench
    }

    /// Another pool on the same server under the same name.
    pub(crate) fn pool_of(&self, sessions: SessionConfig, config: Config) -> Pool<PgConnector> {
        let options = self.server.options().application_name(self.name);
        Pool::new(connector(options, sessions), config).unwrap()
    }

    /// A pool of one connection to a server that is some milliseconds away.
    pub(crate) async fn distant(name: &'static str, config: Config) -> Self {
        let mut bench = Self::with(name, config.clone()).await;
        let proxies = Proxies::new(1);
        let upstream = format!("127.0.0.1:{}", bench.server.port());
        let proxy = proxies.create(ProxySpec::local(PROXY, upstream)).await;
        let listen: SocketAddr = proxy.unwrap().listen.parse().unwrap();
        bench.options = bench.options.port(listen.port());
        bench.pool = pool_on(bench.options.clone(), config);
        bench.proxies = Some(proxies);
        bench.inflict("distance", DISTANCE).await;
        bench
    }

    pub(crate) async fn with(name: &'static str, config: Config) -> Self {
        Self::on(server().await, name, config).await
    }

    pub(crate) async fn on(server: Arc<Server>, name: &'static str, config: Config) -> Self {
        let mut admin = server.direct().connect().await.unwrap();
        let table = format!("drop table if exists {name}; create table {name} (v text)");
        admin
            .execute(sqlx::raw_sql(AssertSqlSafe(table)))
            .await
            .unwrap();
        let options = server.options().application_name(name);
        Self {
            pool: pool_on(options.clone(), config),
            admin,
            name,
            server,
            options,
            proxies: None,
        }
    }

    /// Adds a toxic to what the pool receives.
    pub(crate) async fn inflict(&self, toxic_name: &str, toxic: Toxic) {
        let spec = ToxicSpec::new(toxic, Stream::Downstream).named(toxic_name);
        self.proxies().add_toxic(PROXY, spec).await.unwrap();
    }

    pub(crate) async fn heal(&self, toxic_name: &str) {
        self.proxies()
            .remove_toxic(PROXY, toxic_name)
            .await
            .unwrap();
    }

    /// Waits until a backend of the pool executes a statement with these words in it.
    pub(crate) async fn until_active(&mut self, words: &str) {
        let active = async |bench: &mut Self| {
            let backends = bench.backends().await;
            backends
                .iter()
                .any(|(_, state, query)| state == "active" && query.contains(words))
        };
        self.until("the backend is busy", active).await;
    }

    /// Makes every commit to the table take this long.
    pub(crate) async fn slow_commits(&mut self, seconds: u32) {
        let name = self.name;
        let trigger = format!(
            "create or replace function {name}_slow() returns trigger language plpgsql as \
             $$ begin perform pg_sleep({seconds}); return null; end $$; \
             create constraint trigger slow after insert on {name} \
             deferrable initially deferred for each row execute function {name}_slow()"
        );
        let trigger = sqlx::raw_sql(AssertSqlSafe(trigger));
        self.admin.execute(trigger).await.unwrap();
    }

    /// Resets all links between pool and server.
    pub(crate) fn cut(&self) {
        let cut = self.proxies().reset_links(PROXY).unwrap();
        assert!(cut > 0, "there was nothing to cut");
    }

    fn proxies(&self) -> &Proxies {
        self.proxies.as_ref().unwrap()
    }

    /// Inserts through the simple protocol.
    pub(crate) fn insert(&self, value: &str) -> sqlx::RawSql {
        insert(self.name, value)
    }

    /// What is committed, sorted.
    pub(crate) async fn stored(&mut self) -> Vec<String> {
        let query = format!("select v from {} order by v", self.name);
        let rows = self.admin.fetch_all(AssertSqlSafe(query)).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// `pid`, `state` and `query` of the pool's backends.
    pub(crate) async fn backends(&mut self) -> Vec<(i32, String, String)> {
        let query = sqlx::query(
            "select pid, coalesce(state, ''), query from pg_stat_activity \
             where application_name = $1 order by pid",
        );
        let rows = self.admin.fetch_all(query.bind(self.name)).await.unwrap();
        rows.iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect()
    }

    pub(crate) async fn terminate(&mut self, pid: i32) {
        let query = sqlx::query("select pg_terminate_backend($1)").bind(pid);
        let row = self.admin.fetch_one(query).await.unwrap();
        assert!(row.get::<bool, _>(0), "the backend was not there");
        self.until_gone(pid).await;
    }

    pub(crate) async fn until_gone(&mut self, pid: i32) {
        let gone = async |bench: &mut Self| {
            let query = sqlx::query("select 1 from pg_stat_activity where pid = $1").bind(pid);
            bench.admin.fetch_optional(query).await.unwrap().is_none()
        };
        self.until("the backend is gone", gone).await;
    }

    /// Waits until the pool is at rest, and then for the server to agree: no backend of the pool does
    /// anything or holds a transaction, and there are as many as the pool believes.
    pub(crate) async fn until_at_rest(&mut self) {
        let at_rest = async |bench: &mut Self| {
            let now = bench.pool.snapshot();
            let backends = bench.backends().await;
            now.out + now.opening + now.closing == 0
                && backends.len() == now.idle
                && backends.iter().all(|(_, state, _)| state == "idle")
        };
        self.until("pool and server are at rest", at_rest).await;
    }

    pub(crate) async fn until(&mut self, what: &str, holds: impl AsyncFn(&mut Self) -> bool) {
        let mut pause = tokio::time::interval(Duration::from_millis(10));
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds(self).await {
                pause.tick().await;
            }
        });
        let waited = waited.await;
        assert!(
            waited.is_ok(),
            "{what}: not within {PATIENCE:?}; {:?}; {:?}",
            self.pool.snapshot(),
            self.backends().await
        );
    }
}

pub(crate) fn one_connection() -> Config {
    Config {
        pool_size: 1,
        max_overflow: 0,
        ..Config::default()
    }
}

pub(crate) fn pool_on(options: PgConnectOptions, config: Config) -> Pool<PgConnector> {
    Pool::new(connector(options, SessionConfig::default()), config).unwrap()
}

/// Opens connections as the test target's way to the server needs it.
pub(crate) fn connector(options: PgConnectOptions, sessions: SessionConfig) -> PgConnector {
    let pooler = match FRONT {
        Some(PoolMode::Session) => Pooler::Session,
        Some(PoolMode::Transaction) | None => sessions.pooler,
    };
    PgConnector::configured(options, SessionConfig { pooler, ..sessions }).unwrap()
}

pub(crate) fn insert(table: &str, value: &str) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(format!(
        "insert into {table} values ('{value}')"
    )))
}
