//! What the pool and the session add to the traffic: nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use poolproof_pool::{Config, PgConnector, Pool, Transaction};
use sqlx::postgres::PgSslMode;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::timeout;

use crate::cluster::cluster;
use crate::relay::{Cut, Relay};

/// Long enough for anything but a hang.
const WITHIN: Duration = Duration::from_secs(30);

const INSERT: &str = "insert into round_trips values (1)";

/// Compares with a dedicated connection that does the same by hand.
#[tokio::test]
async fn a_session_adds_no_round_trip_to_a_statement_or_a_transaction() {
    let cluster = cluster().await;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
    let relay = Relay::start(server).await;
    let options = cluster
        .options()
        .port(relay.port())
        .ssl_mode(PgSslMode::Disable);
    let mut dedicated = options.connect().await.unwrap();
    dedicated
        .execute("create table round_trips (v int)")
        .await
        .unwrap();

    let by_hand = counted(&relay, async || {
        dedicated.execute("BEGIN").await.unwrap();
        dedicated.execute(INSERT).await.unwrap();
        dedicated.execute("COMMIT").await.unwrap();
    });
    let by_hand = by_hand.await;
    assert_eq!(by_hand, 3, "the count itself");

    let pool = Pool::new(PgConnector::new(options), Config::default()).unwrap();
    drop(pool.session().await.unwrap());
    let transaction = counted(&relay, async || {
        let mut session = pool.session().await.unwrap();
        let work = session.transaction(async |tx: &mut Transaction<'_>| tx.execute(INSERT).await);
        work.await.unwrap();
    });
    assert_eq!(transaction.await, by_hand);
    let statement = counted(&relay, async || {
        let mut session = pool.session().await.unwrap();
        session.execute(INSERT).await.unwrap();
    });
    assert_eq!(statement.await, 1);
    let nothing = counted(&relay, async || drop(pool.session().await.unwrap()));
    assert_eq!(nothing.await, 0);
    dedicated.close().await.unwrap();
}

/// A socket that just closes leaves the server to guess whether the client has crashed.
#[tokio::test]
async fn a_connection_that_is_closed_says_goodbye() {
    let cluster = cluster().await;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
    let relay = Relay::start(server).await;
    let options = cluster.options().port(relay.port());
    let options = options.ssl_mode(PgSslMode::Disable);
    let pool = Pool::new(PgConnector::new(options), Config::default()).unwrap();
    drop(pool.session().await.unwrap());
    relay.arm(1, Cut::After);
    let goodbye = timeout(WITHIN, relay.stopped());
    let (_closed, goodbye) = tokio::join!(pool.close(WITHIN), goodbye);
    goodbye.unwrap();
}

async fn counted(relay: &Relay, work: impl AsyncFnOnce()) -> u64 {
    let before = relay.round_trips();
    work().await;
    relay.round_trips() - before
}
