//! `check` against a real server: what it measures, and what it says when it is turned away.

#![expect(clippy::unwrap_used, reason = "a broken set-up fails the test")]

use std::error::Error as _;

use poolproof_run::{CheckError, DatabaseUrl, Share, Unwritable, check};
use poolproof_testbed::{Admin, Cluster, LocalConfig};
use sqlx::{ConnectOptions as _, Executor as _};

async fn cluster() -> Cluster {
    Cluster::start(LocalConfig::default()).await.unwrap()
}

/// A URL of the cluster, as applications with asyncpg write it.
fn url(cluster: &Cluster, user: &str, password: &str) -> DatabaseUrl {
    let options = cluster.options();
    let (port, database) = (options.get_port(), options.get_database().unwrap());
    let url = format!("postgresql+asyncpg://{user}:{password}@127.0.0.1:{port}/{database}");
    url.parse().unwrap()
}

#[tokio::test]
async fn a_server_tells_its_version_speed_and_room() {
    let cluster = cluster().await;
    let mut admin = Admin::connect(cluster.options()).await.unwrap();
    let connection = admin.connection().await.unwrap();
    connection
        .execute("create role limited login password 'pw' connection limit 4")
        .await
        .unwrap();
    let superuser: DatabaseUrl = cluster.options().to_url_lossy().as_str().parse().unwrap();

    let checked = check(&superuser).await.unwrap();
    assert!(checked.version.starts_with("PostgreSQL "), "{checked:?}");
    assert!(checked.connect.median <= checked.connect.slowest);
    assert!(!checked.first_query.median.is_zero());
    assert_eq!((checked.tls, checked.unwritable), (None, None));
    assert_eq!(
        (checked.room.max_connections, checked.room.reserved),
        (100, 3)
    );
    // The administrator's connection above; the check does not count itself.
    assert_eq!(checked.room.in_use, 1);
    assert_eq!(checked.room.usable(), 96);
    assert_eq!((checked.room.role, checked.room.database), (None, None));

    let connection = admin.connection().await.unwrap();
    let limited = url(&cluster, "limited", "pw");
    let checked = check(&limited).await.unwrap();
    assert_eq!(checked.unwritable, Some(Unwritable::NoCreate));
    let database = cluster.options().get_database().unwrap().to_owned();
    let grant = format!("grant create on database {database} to limited");
    let grant = sqlx::raw_sql(sqlx::AssertSqlSafe(grant));
    connection.execute(grant).await.unwrap();
    let checked = check(&limited).await.unwrap();
    assert_eq!(checked.unwritable, None);
    let read_only = "alter role limited set default_transaction_read_only = on";
    connection.execute(read_only).await.unwrap();
    let checked = check(&limited).await.unwrap();
    assert_eq!(checked.unwritable, Some(Unwritable::ReadOnly));
    let role = Share {
        limit: 4,
        in_use: 0,
    };
    assert_eq!(checked.room.role, Some(role));
    assert_eq!(checked.room.usable(), 4);
    drop(admin);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_no_is_answered_with_the_remedy() {
    let cluster = cluster().await;
    let superuser = cluster.options().get_username().to_owned();
    let wrong = url(&cluster, &superuser, "s3cret");
    let error = check(&wrong).await.unwrap_err();
    assert!(
        error.help().starts_with("user or password are wrong"),
        "{error:?}"
    );
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let text = format!("{error} {error:?} {cause}");
    assert!(!text.contains("s3cret"), "{text}");

    let options = cluster.options().database("nosuch");
    let missing: DatabaseUrl = options.to_url_lossy().as_str().parse().unwrap();
    let error = check(&missing).await.unwrap_err();
    assert!(
        error.help().starts_with("there is no such database"),
        "{error:?}"
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_closed_port_is_told_from_a_stranger_behind_it() {
    let refused: DatabaseUrl = "postgres://u@127.0.0.1:1/db".parse().unwrap();
    let error = check(&refused).await.unwrap_err();
    assert!(matches!(error, CheckError::Connect { .. }), "{error:?}");
    assert_eq!(error.to_string(), "no connection to u@127.0.0.1:1/db");
    assert_eq!(
        error.help(),
        "nothing listens there: is the server started, and is the port right?"
    );

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stranger = format!("postgres://u@127.0.0.1:{port}/db");
    let stranger: DatabaseUrl = stranger.parse().unwrap();
    let hang_up = async {
        drop(listener.accept().await.unwrap());
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        checked = check(&stranger) => checked.unwrap_err(),
        () = hang_up => unreachable!("it never ends"),
    };
    // Whether a reset or an end of file comes first is the network's choice.
    assert!(
        error.help().starts_with("something listens there "),
        "{error:?}: {}",
        error.help()
    );
}
