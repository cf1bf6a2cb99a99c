//! Spans tell waits, server processes and outcomes, and neither SQL nor passwords.
//!
//! A program of its own, with one test: another thread that comes upon a span for the first time while
//! the listener is being installed can make tracing believe that nobody listens.

#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that they use"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use poolproof_pool::{Config, PgConnector, Pool, QueryError, Transaction};
use poolproof_testbed::{Cluster, LocalConfig};
use sqlx::{ConnectOptions, Executor};
use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps what spans and events say, as text.
#[derive(Clone, Default)]
struct Heard {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Heard {
    fn note(&self, line: String) {
        self.lines
            .lock()
            .expect("no other test panicked in here")
            .push(line);
    }

    /// What the spans of this name recorded under this field.
    fn values(&self, span: &str, field: &str) -> Vec<String> {
        let start = format!("{span} {field}=");
        let lines = self.lines.lock().expect("no other test panicked in here");
        lines
            .iter()
            .filter_map(|line| Some(line.strip_prefix(&start)?.to_owned()))
            .collect()
    }
}

struct Fields<'a> {
    of: &'a str,
    heard: &'a Heard,
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.heard.note(format!("{} {field}={value:?}", self.of));
    }
}

/// Its spans' ids are one more than the places of their names in the list.
#[derive(Default)]
struct Listener {
    heard: Heard,
    spans: Mutex<Vec<&'static Metadata<'static>>>,
}

impl Listener {
    fn metadata(&self, span: &Id) -> &'static Metadata<'static> {
        let index = usize::try_from(span.into_u64()).expect("few spans") - 1;
        self.spans.lock().expect("no other test panicked in here")[index]
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("poolproof_pool")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let of = attributes.metadata().name();
        self.heard.note(of.to_owned());
        attributes.record(&mut Fields {
            of,
            heard: &self.heard,
        });
        let mut spans = self.spans.lock().expect("no other test panicked in here");
        spans.push(attributes.metadata());
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let of = self.metadata(span).name();
        values.record(&mut Fields {
            of,
            heard: &self.heard,
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields {
            of: "event",
            heard: &self.heard,
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn spans_tell_waits_pids_and_outcomes_and_no_sql_and_no_password() {
    let postgres = Cluster::start(LocalConfig::default()).await.unwrap();
    let mut admin = postgres.options().connect().await.unwrap();
    let set_up = "create role traced superuser login password 'xyzzy'; create table t (v text)";
    admin.execute(set_up).await.unwrap();

    let listener = Listener::default();
    let heard = listener.heard.clone();
    let guard = tracing::subscriber::set_default(listener);
    let options = postgres.options().username("traced").password("xyzzy");
    let config = Config {
        pool_size: 1,
        max_overflow: 0,
        ..Config::default()
    };
    let pool = Pool::new(PgConnector::new(options), config).unwrap();
    let mut session = pool.session().await.unwrap();
    let pid = session.backend().pid.to_string();
    session
        .transaction(async |tx: &mut Transaction<'_>| {
            tx.execute(sqlx::query("insert into t values ($1)").bind("plugh"))
                .await
        })
        .await
        .unwrap();
    let failed = session
        .transaction(async |tx: &mut Transaction<'_>| tx.execute("select plover from t").await);
    failed.await.map(drop).unwrap_err();
    session
        .execute("set statement_timeout = 1234")
        .await
        .unwrap();
    drop(session);
    refuse_and_drop(&pool).await;
    // Comes after the reset.
    drop(pool.session().await.unwrap());
    drop(guard);

    assert_eq!(heard.values("connect", "pid"), [pid.as_str()]);
    assert_eq!(heard.values("connect", "outcome"), ["\"ok\""]);
    assert_eq!(heard.values("acquire", "pid"), [pid.as_str(); 4]);
    assert_eq!(heard.values("acquire", "wait_us").len(), 5);
    assert_eq!(
        heard.values("acquire", "outcome"),
        ["ok", "ok", "exhausted", "dropped", "ok", "ok"].map(|outcome| format!("{outcome:?}"))
    );
    assert_eq!(heard.values("transaction", "pid"), [pid.as_str(); 3]);
    assert_eq!(
        heard.values("transaction", "outcome"),
        ["committed", "rolled back", "dropped"].map(|outcome| format!("{outcome:?}"))
    );
    assert_eq!(heard.values("reset", "pid"), [pid.as_str(); 2]);
    assert_eq!(heard.values("reset", "outcome"), ["\"ok\""; 2]);
    let everything = heard.lines.lock().unwrap().join("\n");
    for secret in ["xyzzy", "plugh", "plover", "insert"] {
        assert!(!everything.contains(secret), "{secret} is in\n{everything}");
    }
}

/// An acquire that is refused and one that is dropped, and a transaction that is dropped.
async fn refuse_and_drop(pool: &Pool<PgConnector>) {
    let held = pool.session().await.unwrap();
    let refused = pool.acquire().within(Duration::ZERO).await;
    refused.map(drop).unwrap_err();
    assert!(pool.acquire().now_or_never().is_none());
    drop(held);
    let mut session = pool.session().await.unwrap();
    let begun = Notify::new();
    let never = session.transaction(async |_: &mut Transaction<'_>| {
        begun.notify_one();
        std::future::pending::<Result<(), QueryError>>().await
    });
    tokio::select! {
        ended = never => panic!("{ended:?}"),
        () = begun.notified() => {}
    }
}
