//! A commit that the server refuses, and a link that breaks while the session finds out what that means.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;

use poolproof_pool::{Config, PgConnector, Pool, QueryError, Transaction, TransactionError};
use poolproof_testbed::Cluster;
use sqlx::postgres::PgSslMode;

use crate::cluster::cluster;
use crate::relay::{Cut, Relay};

#[tokio::test]
async fn a_link_that_breaks_at_any_message_of_a_refused_commit_is_not_used_again() {
    let table = "create table refused (v int unique deferrable initially deferred)";
    break_everywhere(table, "insert into refused values (1), (1)", 3).await;
}

/// An error about connections may be a pooler's that has lost the server at COMMIT: it is believed once the
/// connection has answered a ping.
#[tokio::test]
async fn a_commit_refused_for_a_connection_is_in_doubt_until_the_server_has_answered() {
    let table = "create table lost (v int); \
        create function lost() returns trigger language plpgsql as \
        $$ begin raise exception using errcode = '08006'; end $$; \
        create constraint trigger lost after insert on lost deferrable initially deferred \
        for each row execute function lost()";
    break_everywhere(table, "insert into lost values (1)", 6).await;
}

/// The same outside a transaction, where the statement may have been executed.
#[tokio::test]
async fn a_statement_that_fails_for_a_connection_failed_once_the_server_has_answered() {
    let cluster = cluster().await;
    let (relay, pool) = relayed(&cluster).await;
    let raise = "do $$ begin raise exception using errcode = '08006'; end $$";
    for message in 1..100 {
        let mut session = pool.session().await.unwrap();
        relay.arm(message, Cut::Before);
        let (failed, broke) = {
            let mut failing = pin!(session.execute(raise));
            tokio::select! {
                failed = &mut failing => (failed, false),
                () = relay.stopped() => {
                    relay.break_stopped().await;
                    (failing.await, true)
                }
            }
        };
        relay.disarm();
        match failed.unwrap_err() {
            QueryError::Connection(_) if broke => {}
            QueryError::Statement(_) if !broke => return assert_eq!(message, 6),
            error => panic!("message {message}: {error:?}"),
        }
    }
    panic!("the statement does not end within 100 messages");
}

async fn relayed(cluster: &Cluster) -> (Relay, Pool<PgConnector>) {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()));
    let relay = Relay::start(server).await;
    let options = cluster
        .options()
        .port(relay.port())
        .ssl_mode(PgSslMode::Disable);
    let pool = Pool::new(PgConnector::new(options), Config::default()).unwrap();
    (relay, pool)
}

/// Breaks the link at each message from the COMMIT on that refuses `insert`. After so many messages that
/// is certain.
async fn break_everywhere(table: &'static str, insert: &'static str, certain_after: u32) {
    let cluster = cluster().await;
    let (relay, pool) = relayed(&cluster).await;
    let mut session = pool.session().await.unwrap();
    session.execute(table).await.unwrap();
    drop(session);

    for message in 1..100 {
        let mut session = pool.session().await.unwrap();
        let (outcome, broke) = {
            let work = session.transaction(async |tx: &mut Transaction<'_>| {
                tx.execute(insert).await?;
                relay.arm(message, Cut::Before);
                Ok::<(), QueryError>(())
            });
            let mut work = pin!(work);
            tokio::select! {
                outcome = &mut work => (outcome, false),
                () = relay.stopped() => {
                    relay.break_stopped().await;
                    (work.await, true)
                }
            }
        };
        relay.disarm();
        let next = session.execute("select 1").await;
        if !broke {
            assert!(
                matches!(outcome, Err(TransactionError::CommitRefused(_))) && next.is_ok(),
                "{outcome:?}, {next:?}"
            );
            assert!(message > 5, "a COMMIT, a look and their answers are more");
            return;
        }
        let certain = message > certain_after;
        match outcome {
            Err(TransactionError::CommitRefused(_)) if certain => {}
            Err(TransactionError::CommitUnknown { .. }) if !certain => {}
            outcome => panic!("message {message}: {outcome:?}"),
        }
        assert!(
            matches!(next, Err(QueryError::Poisoned)),
            "message {message}: {next:?}"
        );
    }
    panic!("the commit does not end within 100 messages");
}
