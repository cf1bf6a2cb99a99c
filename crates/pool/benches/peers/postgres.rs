//! Real connections to a real server: what is measured is what the pool adds to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;
use poolproof_pool::{Config, PgConnector, Pool, Transaction};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};
use tokio::task::JoinSet;

use crate::against;
use crate::contender::{Case, Contender, Round, Waits};
use crate::relay::Relay;

const TASKS: u32 = 64;
const CONNECTIONS: u32 = 10;

const SELECT: &str = "select 1";
const INSERT: &str = "insert into written (v) values (1)";

/// What one operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One prepared statement.
    Select,
    /// Begin, insert, commit.
    Transaction,
}

impl Kind {
    pub(crate) fn case(self) -> Case {
        match self {
            Self::Select => Case {
                name: "select1_64_on_10",
                floors: vec![against("dedicated", 0.9), against("sqlx", 2.5)],
            },
            Self::Transaction => Case {
                name: "transaction_64_on_10",
                floors: vec![against("dedicated", 0.9)],
            },
        }
    }

    /// Of all tasks, in one round.
    fn operations(self) -> u64 {
        match self {
            Self::Select => 6_400,
            Self::Transaction => 1_920,
        }
    }

    /// Does it by hand.
    async fn on(self, connection: &mut PgConnection) {
        match self {
            Self::Select => {
                let row = sqlx::query(SELECT).fetch_one(connection).await;
                row.unwrap();
            }
            Self::Transaction => {
                connection.execute("BEGIN").await.unwrap();
                sqlx::query(INSERT).execute(&mut *connection).await.unwrap();
                connection.execute("COMMIT").await.unwrap();
            }
        }
    }
}

/// A pool of real connections.
trait Peer: Clone + Send + Sync + 'static {
    /// Takes a connection, does it, and gives the connection back. Returns how long the first took, in
    /// nanoseconds.
    fn operate(&self, kind: Kind) -> impl Future<Output = u64> + Send;
}

fn nanos_since(asked: Instant) -> u64 {
    u64::try_from(asked.elapsed().as_nanos()).unwrap()
}

impl Peer for Pool<PgConnector> {
    async fn operate(&self, kind: Kind) -> u64 {
        let asked = Instant::now();
        let mut session = self.session().await.unwrap();
        let waited = nanos_since(asked);
        match kind {
            Kind::Select => drop(session.fetch_one(sqlx::query(SELECT)).await.unwrap()),
            Kind::Transaction => {
                let work = session.transaction(async |tx: &mut Transaction<'_>| {
                    tx.execute(sqlx::query(INSERT)).await
                });
                work.await.unwrap();
            }
        }
        waited
    }
}

impl Peer for PgPool {
    async fn operate(&self, kind: Kind) -> u64 {
        let asked = Instant::now();
        let mut connection = self.acquire().await.unwrap();
        let waited = nanos_since(asked);
        match kind {
            Kind::Select => kind.on(&mut connection).await,
            Kind::Transaction => {
                let mut transaction = connection.begin().await.unwrap();
                let insert = sqlx::query(INSERT).execute(&mut *transaction).await;
                insert.unwrap();
                transaction.commit().await.unwrap();
            }
        }
        waited
    }
}

macro_rules! peer_with_get {
    ($pool:ty) => {
        impl Peer for $pool {
            async fn operate(&self, kind: Kind) -> u64 {
                let asked = Instant::now();
                let mut connection = self.get().await.unwrap();
                let waited = nanos_since(asked);
                kind.on(&mut connection).await;
                waited
            }
        }
    };
}

peer_with_get!(deadpool::managed::Pool<Manager>);
peer_with_get!(bb8::Pool<Manager>);
peer_with_get!(mobc::Pool<Manager>);

/// Opens plain sqlx connections, and never checks them.
#[derive(Debug, Clone)]
struct Manager(PgConnectOptions);

impl deadpool::managed::Manager for Manager {
    type Type = PgConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> sqlx::Result<PgConnection> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        _: &mut PgConnection,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<sqlx::Error> {
        Ok(())
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = PgConnection;
    type Error = sqlx::Error;

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.0.connect().await
    }

    async fn is_valid(&self, _: &mut PgConnection) -> sqlx::Result<()> {
        Ok(())
    }

    fn has_broken(&self, _: &mut PgConnection) -> bool {
        false
    }
}

#[mobc::async_trait]
impl mobc::Manager for Manager {
    type Connection = PgConnection;
    type Error = sqlx::Error;

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.0.connect().await
    }

    async fn check(&self, connection: PgConnection) -> sqlx::Result<PgConnection> {
        Ok(connection)
    }
}

async fn round<P: Peer>(pool: P, kind: Kind) -> Round {
    let each = kind.operations() / u64::from(TASKS);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let pool = pool.clone();
        tasks.spawn(async move {
            let mut waits = Vec::new();
            for _ in 0..each {
                waits.push(pool.operate(kind).await);
            }
            waits
        });
    }
    let mut waits = Vec::new();
    while let Some(measured) = tasks.join_next().await {
        waits.append(&mut measured.unwrap());
    }
    Round {
        took: begun.elapsed(),
        operations: kind.operations(),
        waits,
    }
}

/// Ten tasks, each with a connection of its own.
#[derive(Clone)]
struct Dedicated(Arc<[Arc<tokio::sync::RwLock<PgConnection>>]>);

impl Dedicated {
    async fn open(options: &PgConnectOptions) -> Self {
        let opened = join_all((0..CONNECTIONS).map(|_| options.connect())).await;
        let shared =
            |connection: sqlx::Result<_>| Arc::new(tokio::sync::RwLock::new(connection.unwrap()));
        Self(opened.into_iter().map(shared).collect())
    }

    async fn round(self, kind: Kind) -> Round {
        let each = kind.operations() / u64::from(CONNECTIONS);
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in self.0.iter() {
            let connection = Arc::clone(connection);
            tasks.spawn(async move {
                // Nobody else wants it: this costs one round nothing.
                let mut connection = connection.write().await;
                for _ in 0..each {
                    kind.on(&mut connection).await;
                }
            });
        }
        tasks.join_all().await;
        Round {
            took: begun.elapsed(),
            operations: kind.operations(),
            waits: Vec::new(),
        }
    }
}

/// The server, which does not wait for the disk: the disk is not what is measured.
pub(crate) struct Server {
    cluster: Cluster,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let mut config = LocalConfig::default();
        for (name, value) in [("fsync", "off"), ("synchronous_commit", "off")] {
            config.settings.insert(name.to_owned(), value.to_owned());
        }
        let cluster = Cluster::start(config).await.unwrap();
        let mut admin = cluster.options().connect().await.unwrap();
        admin.execute("create table written (v int)").await.unwrap();
        Self { cluster }
    }

    pub(crate) async fn stop(self) {
        self.cluster.stop().await.unwrap();
    }

    fn options(&self) -> PgConnectOptions {
        self.cluster.options().disable_statement_logging()
    }

    pub(crate) async fn contenders(&self, kind: Kind) -> Vec<Contender> {
        let options = self.options();
        let dedicated = Dedicated::open(&options).await;
        let contenders = Pools::open(&options).await.contenders(kind);
        let dedicated = Contender::new("dedicated", move |_| dedicated.clone().round(kind));
        contenders
            .into_iter()
            .chain([dedicated.that_shares_nothing()])
            .collect()
    }

    /// Counts the round trips of one transaction, over a relay.
    pub(crate) async fn print_round_trips(&self) {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, self.cluster.port()));
        let relay = Relay::start(server).await;
        let options = self
            .options()
            .port(relay.port())
            .ssl_mode(PgSslMode::Disable);
        let pools = Pools::open(&options).await;
        let mut dedicated = options.connect().await.unwrap();
        Kind::Transaction.on(&mut dedicated).await;
        let before = relay.round_trips();
        Kind::Transaction.on(&mut dedicated).await;
        print!("  round trips: dedicated {}", relay.round_trips() - before);
        for (name, counted) in pools.round_trips(&relay).await {
            print!(", {name} {counted}");
        }
        println!();
    }
}

#[derive(Clone)]
struct Pools {
    poolproof: Pool<PgConnector>,
    deadpool: deadpool::managed::Pool<Manager>,
    bb8: bb8::Pool<Manager>,
    mobc: mobc::Pool<Manager>,
    sqlx: PgPool,
}

impl Pools {
    async fn open(options: &PgConnectOptions) -> Self {
        let config = Config {
            pool_size: CONNECTIONS,
            max_overflow: 0,
            ..Config::default()
        };
        let manager = Manager(options.clone());
        Self {
            poolproof: Pool::new(PgConnector::new(options.clone()), config).unwrap(),
            deadpool: deadpool::managed::Pool::builder(manager.clone())
                .max_size(usize::try_from(CONNECTIONS).unwrap())
                .build()
                .unwrap(),
            bb8: bb8::Pool::builder()
                .max_size(CONNECTIONS)
                .test_on_check_out(false)
                .build(manager.clone())
                .await
                .unwrap(),
            mobc: mobc::Pool::builder()
                .max_open(u64::from(CONNECTIONS))
                .max_idle(u64::from(CONNECTIONS))
                .test_on_check_out(false)
                .build(manager),
            sqlx: PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .connect_lazy_with(options.clone()),
        }
    }

    fn contenders(self, kind: Kind) -> Vec<Contender> {
        let Self {
            poolproof,
            deadpool,
            bb8,
            mobc,
            sqlx,
        } = self;
        vec![
            Contender::new("poolproof", move |_: Waits| round(poolproof.clone(), kind)),
            Contender::new("deadpool", move |_| round(deadpool.clone(), kind)),
            Contender::new("bb8", move |_| round(bb8.clone(), kind)),
            Contender::new("mobc", move |_| round(mobc.clone(), kind)),
            Contender::new("sqlx", move |_| round(sqlx.clone(), kind)),
        ]
    }

    async fn round_trips(&self, relay: &Relay) -> Vec<(&'static str, u64)> {
        vec![
            ("poolproof", round_trips(&self.poolproof, relay).await),
            ("deadpool", round_trips(&self.deadpool, relay).await),
            ("bb8", round_trips(&self.bb8, relay).await),
            ("mobc", round_trips(&self.mobc, relay).await),
            ("sqlx", round_trips(&self.sqlx, relay).await),
        ]
    }
}

/// The round trips of one transaction on a connection that has prepared its statements; what the pool
/// does afterwards, before the connection can be lent again, included.
async fn round_trips<P: Peer>(pool: &P, relay: &Relay) -> u64 {
    const OPERATIONS: u64 = 20;
    // Opens a connection and prepares.
    pool.operate(Kind::Transaction).await;
    pool.operate(Kind::Transaction).await;
    let before = relay.round_trips();
    for _ in 0..OPERATIONS {
        pool.operate(Kind::Transaction).await;
    }
    (relay.round_trips() - before).div_ceil(OPERATIONS)
}
