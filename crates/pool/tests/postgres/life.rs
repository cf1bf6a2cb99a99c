//! The life of connections as the server sees it: names, hooks, ages, and a server that comes late.

use std::net::SocketAddr;
use std::time::Duration;

use poolproof_faults::{Proxies, ProxySpec};
use poolproof_pool::{Config, Hooks, PgConn, Pool, SessionConfig};
use sqlx::{Executor, Row};

use crate::support::{Bench, connector, one_connection, server};

#[tokio::test]
async fn the_server_shows_which_pool_and_connection_a_backend_belongs_to() {
    let mut bench = Bench::single("life_tagged").await;
    let tagged = |name: &str| {
        let options = bench.server.options().application_name(name);
        let config = Config {
            pool_size: 3,
            ..Config::default()
        };
        Pool::new(
            connector(options, SessionConfig::default()).tagged(),
            config,
        )
        .unwrap()
    };
    let (pool, other) = (tagged("life_tagged_pool"), tagged("life_tagged_pool"));
    assert_eq!(
        (pool.warm_up(3).await.ready, other.warm_up(1).await.ready),
        (3, 1)
    );
    assert_ne!(pool.tag(), other.tag());
    assert_eq!(bench.pool.tag(), None, "off by default");
    let mine = format!("%/{}/%", pool.tag().unwrap());
    let query = sqlx::query(
        "select pid, application_name from pg_stat_activity where application_name like $1 \
         order by application_name",
    );
    let rows = bench.admin.fetch_all(query.bind(mine)).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(1)).collect();
    let name = |ordinal| format!("life_tagged_pool/{}/{ordinal}", pool.tag().unwrap());
    assert_eq!(names, [name(1), name(2), name(3)]);
    let pid = pool.session().await.unwrap().backend().pid;
    assert!(rows.iter().any(|row| row.get::<i32, _>(0) == pid));
}

#[tokio::test]
async fn hooks_run_statements_on_real_connections() {
    let server = server().await;
    let hooks = Hooks::<PgConn>::new()
        .on_connect(|conn| {
            Box::pin(async move {
                let set = sqlx::raw_sql("set work_mem = '123kB'");
                set.execute(conn.connection()).await?;
                Ok(())
            })
        })
        .on_release(|conn| {
            Box::pin(async move {
                let fail = sqlx::raw_sql("select 1 / 0");
                fail.execute(conn.connection()).await?;
                Ok(())
            })
        });
    let connector = connector(server.options(), SessionConfig::default());
    let pool = Pool::with_hooks(connector, one_connection(), hooks).unwrap();
    let mut session = pool.session().await.unwrap();
    let setting = session.fetch_simple_text("show work_mem").await.unwrap();
    assert_eq!(setting.as_deref(), Some("123kB"));
    drop(session);
    let _session = pool.session().await.unwrap();
    let now = pool.snapshot();
    assert_eq!(
        (now.opened_total, now.closed_by.unfit),
        (2, 1),
        "its release hook failed"
    );
}

/// Rule 35: after an invalidation every lease is on a new server process, and the old ones are gone.
#[tokio::test]
async fn rule_35_invalidated_backends_are_gone_from_the_server() {
    let config = Config {
        pool_size: 2,
        max_overflow: 0,
        ..Config::default()
    };
    let mut bench = Bench::with("life_invalidated", config).await;
    assert_eq!(bench.pool.warm_up(2).await.ready, 2);
    let old: Vec<i32> = bench
        .backends()
        .await
        .iter()
        .map(|(pid, ..)| *pid)
        .collect();
    let held = bench.pool.session().await.unwrap();
    bench.pool.invalidate();
    drop(held);
    for pid in &old {
        bench.until_gone(*pid).await;
    }
    let young = bench.pool.session().await.unwrap().backend().pid;
    assert!(!old.contains(&young));
    bench.until_at_rest().await;
}

/// F16: while connections are replaced under use there are never more than the limit, and no use fails.
#[tokio::test]
async fn f16_replacing_connections_disturbs_nobody_and_exceeds_no_limit() {
    let config = Config {
        pool_size: 3,
        max_overflow: 1,
        connect_timeout: Duration::from_millis(900),
        pool_recycle: Some(Duration::from_secs(1)),
        ..Config::default()
    };
    let mut bench = Bench::with("life_recycled", config).await;
    assert_eq!(bench.pool.warm_up(3).await.ready, 3);
    let each_was_replaced = async |bench: &mut Bench| {
        let mut session = bench.pool.session().await.unwrap();
        session.fetch_one("select 1").await.unwrap();
        assert!(bench.backends().await.len() <= 4);
        bench.pool.snapshot().closed_by.recycled >= 6
    };
    bench
        .until("each was replaced, twice", each_was_replaced)
        .await;
    assert_eq!(bench.pool.snapshot().closed_by.broken, 0);
}

/// The pool builds while the database is down, says so, and serves when it appears.
#[tokio::test]
async fn f18_a_pool_that_was_built_before_its_server_serves_when_the_server_comes() {
    let server = server().await;
    let proxies = Proxies::new(1);
    let upstream = format!("127.0.0.1:{}", server.port());
    let proxy = proxies.create(ProxySpec::local("late", upstream)).await;
    let listen: SocketAddr = proxy.unwrap().listen.parse().unwrap();
    proxies.disable("late").await.unwrap();
    let options = server.options().port(listen.port());
    let config = Config {
        min_idle: 1,
        ..one_connection()
    };
    let pool = Pool::new(connector(options, SessionConfig::default()), config).unwrap();
    let warm = pool.warm_up(1).await;
    assert_eq!((warm.ready, warm.failure.is_some()), (0, true));
    assert!(pool.outage().is_some() && pool.snapshot().outage.is_some());
    let (lease, enabled) = tokio::join!(pool.acquire(), proxies.enable("late"));
    enabled.unwrap();
    drop(lease.unwrap());
    assert!(pool.outage().is_none());
}
