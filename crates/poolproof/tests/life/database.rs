//! A server that exists already, with an application's role, password and tables.

use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::place::{make_warm_home, open_directory};

/// What every password in these tests begins with, encoded or not.
pub(crate) const CANARY: &str = "c4nary";
/// How the application's password goes on, as it is and as it stands in a URL.
const REST: &str = "/p@ss:w%rd";
const REST_IN_URL: &str = "%2Fp%40ss%3Aw%25rd";

/// The server. It has a home of its own, outside every [`crate::place::Place`].
pub(crate) struct Database {
    runtime: Runtime,
    cluster: Option<Cluster>,
    port: u16,
    canary: String,
    _home: TempDir,
}

impl Database {
    pub(crate) fn start() -> Self {
        let root = open_directory();
        let home = root.path().join("home");
        make_warm_home(&home);
        let runtime = Runtime::new().unwrap();
        let config = LocalConfig {
            home: Some(home),
            ..LocalConfig::default()
        };
        let cluster = runtime.block_on(Cluster::start(config)).unwrap();
        let database = Self {
            runtime,
            port: cluster.port(),
            canary: format!("{CANARY}{}", cluster.port()),
            cluster: Some(cluster),
            _home: root,
        };
        let password = format!("{}{REST}", database.canary);
        database.ask(&format!("create role app login password '{password}'"));
        database.ask("grant create on database poolproof to app");
        database.ask("create schema shop authorization app");
        database.ask("create table shop.orders as select n from generate_series(1, 100) n");
        database.ask("alter table shop.orders owner to app");
        database
    }

    /// Returns the application's URL in a dialect such as `postgresql+asyncpg`.
    pub(crate) fn url(&self, dialect: &str) -> String {
        self.url_with_password(dialect, &format!("{}{REST_IN_URL}", self.canary))
    }

    /// What the application's password begins with, here and nowhere else.
    pub(crate) fn canary(&self) -> &str {
        &self.canary
    }

    pub(crate) fn url_with_password(&self, dialect: &str, password: &str) -> String {
        format!(
            "{dialect}://app:{password}@127.0.0.1:{}/poolproof",
            self.port
        )
    }

    /// Asks as superuser, on a connection of its own; returns the first column as text.
    #[track_caller]
    pub(crate) fn ask(&self, sql: &str) -> Vec<String> {
        let options = self.cluster.as_ref().unwrap().options();
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            let rows = sqlx::query(AssertSqlSafe(sql))
                .fetch_all(&mut connection)
                .await
                .unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        })
    }

    /// Returns the schemas of runs.
    pub(crate) fn schemas(&self) -> Vec<String> {
        self.ask(
            "select nspname::text from pg_namespace \
             where nspname like 'poolproof%' order by nspname",
        )
    }

    /// Checks that the application's tables are as they were.
    #[track_caller]
    pub(crate) fn assert_own_tables_untouched(&self) {
        let orders = self.ask("select concat(count(*), ' ', sum(n)) from shop.orders");
        assert_eq!(orders, ["100 5050"]);
        let tables = self.ask(
            "select concat(schemaname, '.', tablename) from pg_tables \
             where schemaname not in ('pg_catalog', 'information_schema')",
        );
        assert_eq!(tables, ["shop.orders"]);
    }

    /// Takes an advisory lock for as long as the connection lives, as a living run does.
    pub(crate) fn lock(&self, name: &str) -> PgConnection {
        let options = self.cluster.as_ref().unwrap().options();
        let sql = format!("select pg_advisory_lock(hashtextextended('{name}', 0))");
        self.runtime.block_on(async {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap();
            connection
        })
    }

    /// Returns what the server wrote into its log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.cluster.as_ref().unwrap().log_file()).unwrap()
    }

    /// Takes the server away for good.
    pub(crate) fn stop(&mut self) {
        let cluster = self.cluster.take().unwrap();
        self.runtime.block_on(cluster.stop()).unwrap();
    }
}
