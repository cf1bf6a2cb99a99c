//! Servers that are not there, refuse, or go away; passwords that stay secret.

use std::time::Duration;

use poolproof_pool::{
    AcquireError, Categorized, Category, Config, ConnectError, PgConnector, Pool, Pooler,
    SessionConfig,
};
use poolproof_url::DatabaseUrl;
use sqlx::postgres::PgSslMode;
use sqlx::{ConnectOptions, Executor};

use crate::support::{Bench, pool_on, server};

direct! { "PgBouncer refuses logins with an SQLSTATE that it has for everything";
/// The table: what the server refuses for good is told after one attempt, with its code.
#[tokio::test]
async fn what_is_refused_for_good_is_rejected_at_once_with_the_cause() {
    let server = server().await;
    let mut admin = server.options().connect().await.unwrap();
    for sql in [
        "create role connecting_plain login password 's3cret'",
        "create database connecting_private",
        "revoke connect on database connecting_private from public",
        "create database connecting_closed allow_connections false",
    ] {
        admin.execute(sql).await.unwrap();
    }
    let options = || server.options();
    let plain = || options().username("connecting_plain").password("s3cret");
    for (options, code) in [
        (options().password("wrong-s3cret"), Some("28P01")),
        (options().username("connecting_nobody"), Some("28P01")),
        (options().database("nowhere"), Some("3D000")),
        (plain().database("connecting_private"), Some("42501")),
        (options().database("connecting_closed"), Some("55000")),
        (options().options([("no_such_option", "1")]), Some("42704")),
        (options().options([("work_mem", "much")]), Some("22023")),
        (options().options([("port", "1")]), Some("55P02")),
        (
            options().options([("role", "connecting_nobody")]),
            Some("22023"),
        ),
        (options().ssl_mode(PgSslMode::Require), None),
    ] {
        let pool = pool_on(options, Config::default());
        let error = pool.session().await.unwrap_err();
        let AcquireError::Rejected {
            cause: ConnectError::Failed(cause),
        } = &error
        else {
            panic!("{code:?}: {error:?}")
        };
        assert_eq!(cause.sqlstate().as_deref(), code, "{cause}");
        assert_eq!(error.category(), Category::Unavailable);
        let attempts = pool.snapshot().open_failures_total;
        assert_eq!(attempts, 1, "{code:?}: it was tried again");
        for text in [format!("{error} {error:?}"), format!("{pool:?}")] {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}
}

/// On a direct connection. What a pooler does not pass on is missing as well when it was never sent.
#[tokio::test]
async fn a_pooler_is_noticed_by_what_did_not_arrive_unless_something_else_was_declared() {
    let server = server().await;
    let whole = server.direct();
    let less = server.direct().extra_float_digits(None);
    let other = server.direct().extra_float_digits(0);
    for (options, pooler, is_pooled) in [
        (&whole, Pooler::Notice, false),
        (&other, Pooler::Notice, false),
        (&less, Pooler::Notice, true),
        (&less, Pooler::Session, false),
        (&whole, Pooler::Session, false),
        (&whole, Pooler::Transaction, true),
    ] {
        let sessions = SessionConfig {
            pooler,
            ..SessionConfig::default()
        };
        let connector = PgConnector::configured(options.clone(), sessions).unwrap();
        let pool = Pool::new(connector, Config::default()).unwrap();
        let lease = pool.acquire().await.unwrap();
        assert_eq!(lease.get().is_pooled(), is_pooled, "{pooler:?}");
    }
}

/// F18: nothing listens, and the error says where.
#[tokio::test]
async fn f18_a_server_that_is_not_there_is_down_with_the_cause() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .password("s3cret")
        .database("shop");
    let pool = pool_on(options, Config::default());
    let error = pool
        .acquire()
        .within(Duration::from_millis(300))
        .await
        .unwrap_err();
    let AcquireError::Down {
        cause: ConnectError::Failed(cause),
        ..
    } = error
    else {
        panic!("{error:?}")
    };
    let sqlx::Error::Io(io) = &*cause else {
        panic!("{cause:?}")
    };
    assert_eq!(io.kind(), std::io::ErrorKind::ConnectionRefused);
    let text = cause.to_string();
    let place = format!("could not connect to 127.0.0.1:{port}/shop: ");
    assert!(text.contains(&place), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

/// The server that is silent after accepting: the deadline covers the connect.
#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_a_connect_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(listener.local_addr().unwrap().port());
    let pool = pool_on(options, Config::default());
    let (outcome, accepted) = tokio::join!(
        pool.acquire().within(Duration::from_secs(1)),
        listener.accept()
    );
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, AcquireError::ConnectTimeout { opening: 1, .. }),
        "{error:?}"
    );
    let report = pool.close(Duration::from_secs(10)).await;
    assert_eq!(
        (report.holders.len(), report.cut_short),
        (0, 0),
        "{report:?}"
    );
    drop(accepted);
}

#[tokio::test]
async fn a_url_of_sqlalchemy_with_an_awkward_password_connects_and_never_shows_it() {
    let mut bench = Bench::single("connecting_url").await;
    bench
        .admin
        .execute(sqlx::raw_sql(
            "drop role if exists \"odd@user\"; \
             create role \"odd@user\" login password 'p@ss/w:rd#?%'",
        ))
        .await
        .unwrap();
    let text = format!(
        "postgresql+asyncpg://odd%40user:p%40ss%2Fw%3Ard%23%3F%25@127.0.0.1:{}/{}\
         ?ssl=prefer&prepared_statement_cache_size=0",
        bench.server.port(),
        bench.server.options().get_database().unwrap()
    );
    let url: DatabaseUrl = text.parse().unwrap();
    assert!(url.is_loopback());
    let pool = pool_on(url.options(), Config::default());
    let mut session = pool.session().await.unwrap();
    let user = session
        .fetch_simple_text("select current_user")
        .await
        .unwrap();
    assert_eq!(user.as_deref(), Some("odd@user"));
    let shown = format!("{url} {url:?} {pool:?} {session:?}");
    assert!(
        !shown.contains("p@ss") && !shown.contains("p%40ss"),
        "{shown}"
    );
}

/// Why some settings in a URL's `options` are refused and one is made room for: what the driver sends
/// at start-up wins over them.
#[tokio::test]
async fn settings_in_a_urls_options_arrive_at_the_server() {
    let bench = Bench::single("connecting_options").await;
    let url = |options: &str| {
        let place = bench.server.direct().to_url_lossy();
        format!("{place}&options={options}")
    };
    let text = url("-c%20extra_float_digits%3D-3%20-c%20statement_timeout%3D7s");
    let url_options = text.parse::<DatabaseUrl>().unwrap().options();
    let overruled = bench
        .server
        .direct()
        .options([("timezone", "Europe/Berlin")]);
    for (options, show, value) in [
        (url_options.clone(), "show extra_float_digits", "-3"),
        (url_options, "show statement_timeout", "7s"),
        (overruled, "show timezone", "UTC"),
    ] {
        let pool = pool_on(options, Config::default());
        let mut session = pool.session().await.unwrap();
        let shown = session.fetch_simple_text(show).await.unwrap();
        assert_eq!(shown.as_deref(), Some(value), "{show}");
    }
    let refused = url("-c%20timezone%3DEurope/Berlin").parse::<DatabaseUrl>();
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test]
async fn a_session_is_listed_under_the_line_that_asked_for_it() {
    let bench = Bench::single("connecting_holder").await;
    let line = line!() + 1;
    let session = bench.pool.session().await.unwrap();
    let [holder] = bench.pool.holders()[..] else {
        panic!("{:?}", bench.pool.holders())
    };
    assert_eq!(
        (holder.location.file(), holder.location.line()),
        (file!(), line)
    );
    drop(session);
    assert_eq!(bench.pool.holders(), []);
}

#[tokio::test]
async fn closing_says_goodbye_to_the_server() {
    let mut bench = Bench::single("connecting_goodbye").await;
    drop(bench.pool.session().await.unwrap());
    assert_eq!(bench.backends().await.len(), 1);
    let report = bench.pool.close(Duration::from_secs(20)).await;
    assert_eq!(
        (report.holders.len(), report.cut_short),
        (0, 0),
        "{report:?}"
    );
    bench.until_at_rest().await;
    assert_eq!(bench.backends().await, []);
}
