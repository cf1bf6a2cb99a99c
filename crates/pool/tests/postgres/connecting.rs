//! Servers that are not there, refuse, or go away; passwords that stay secret.

use std::time::Duration;

use poolproof_pool::{AcquireError, Categorized, Category, Config, ConnectError, DatabaseUrl};
use sqlx::{ConnectOptions as _, Executor};
use tokio::time::Instant;

use crate::support::{Bench, cluster, pool_on};

#[tokio::test]
async fn wrong_password_and_missing_database_are_rejected_at_once() {
    let cluster = cluster().await;
    for (options, code) in [
        (cluster.options().password("wrong-s3cret"), "28P01"),
        (cluster.options().database("nowhere"), "3D000"),
    ] {
        let pool = pool_on(options, Config::default());
        let began = Instant::now();
        let error = pool.session().await.unwrap_err();
        let AcquireError::Rejected {
            cause: ConnectError::Failed(cause),
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(cause.sqlstate().as_deref(), Some(code));
        assert_eq!(error.category(), Category::Unavailable);
        assert!(
            began.elapsed() < pool.config().pool_timeout,
            "it waited for the deadline"
        );
        for text in [format!("{error} {error:?}"), format!("{pool:?}")] {
            assert!(!text.contains("s3cret"), "{text}");
        }
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
        bench.cluster.port(),
        bench.cluster.options().get_database().unwrap()
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
        let place = bench.cluster.options().to_url_lossy();
        format!("{place}&options={options}")
    };
    let text = url("-c%20extra_float_digits%3D-3%20-c%20statement_timeout%3D7s");
    let url_options = text.parse::<DatabaseUrl>().unwrap().options();
    let overruled = bench
        .cluster
        .options()
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
