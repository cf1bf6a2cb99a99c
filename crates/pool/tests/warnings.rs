//! What is wrong at the server and needs somebody's hand is warned of, once.
//!
//! A program of its own, with one test: see `traces.rs`.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that they use"
)]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use poolproof_pool::{Config, PgConnector, Pool};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, raw_sql};
use tokio::time::{interval, timeout};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Generous: it is the test's failure and not a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps the text of each warning.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn with(&self, words: &str) -> Vec<String> {
        let mut warnings = self.0.lock().unwrap().clone();
        warnings.retain(|warning| warning.contains(words));
        warnings
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{value:?} ").unwrap();
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().starts_with("poolproof_pool")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Leaves a statement alone while the server works on it.
async fn abandon(admin: &mut PgConnection, pool: &Pool<PgConnector>) {
    let mut session = pool.session().await.unwrap();
    let pid = session.backend().pid;
    let active = format!("select 1 from pg_stat_activity where pid = {pid} and state = 'active'");
    tokio::select! {
        outcome = session.execute("select pg_sleep(600)") => panic!("{outcome:?}"),
        () = until(async || rows(admin, &active).await > 0) => {}
    }
}

async fn rows(admin: &mut PgConnection, query: &str) -> usize {
    let query = raw_sql(AssertSqlSafe(query.to_owned()));
    admin.fetch_all(query).await.unwrap().len()
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let mut pause = interval(Duration::from_millis(10));
    let waited = timeout(PATIENCE, async {
        while !holds().await {
            pause.tick().await;
        }
    });
    waited.await.unwrap();
}

/// The role may open as many connections as the pool, so that there is none to end a statement with. Goal:
/// that is told once for as long as it lasts, however often it is tried, and again when it comes again.
#[tokio::test]
async fn a_role_without_a_connection_to_spare_is_warned_of_with_the_remedy() {
    let postgres = Cluster::start(LocalConfig::default()).await.unwrap();
    let mut admin = postgres.options().connect().await.unwrap();
    let create = raw_sql("create role app login password 'app' connection limit 2");
    admin.execute(create).await.unwrap();
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let config = Config {
        pool_size: 2,
        max_overflow: 0,
        reset_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let options = postgres.options().username("app").password("app");
    let pool = Pool::new(PgConnector::new(options), config).unwrap();
    for times in 1..=2 {
        pool.warm_up(2).await;
        abandon(&mut admin, &pool).await;
        abandon(&mut admin, &pool).await;
        until(async || pool.snapshot().size() == 0).await;
        let told = warnings.with("no control connection");
        assert_eq!(told.len(), times, "{:?}", warnings.0.lock().unwrap());
        for word in ["too many connections for role", "Await or Drop"] {
            assert!(told[times - 1].contains(word), "{told:?}");
        }
        // With one to spare, what is left is ended.
        let spare = "alter role app connection limit 3; \
                     select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'";
        admin.execute(raw_sql(spare)).await.unwrap();
        abandon(&mut admin, &pool).await;
        until(async || pool.snapshot().size() == 0).await;
        let asleep = "select 1 from pg_stat_activity where usename = 'app' and state = 'active'";
        until(async || rows(&mut admin, asleep).await == 0).await;
        let limit = raw_sql("alter role app connection limit 2");
        admin.execute(limit).await.unwrap();
    }
    assert_eq!(warnings.with("no control connection").len(), 2);
}
