//! Races and listings that need a look inside.

use std::net::TcpListener;
use std::sync::Arc;

use sqlx::{ConnectOptions, Executor};

use super::*;
use crate::processes;

async fn launched_on(port: u16) -> (Server, Result<(), StartError>) {
    let config = LocalConfig::default();
    let mut server = tokio::task::spawn_blocking(move || Server::prepare(&config, Alive::begin()))
        .await
        .unwrap()
        .unwrap();
    server.launch_on(port).unwrap();
    let end = ready(&server, &options(port, server.password())).await;
    (server, end)
}

#[tokio::test]
async fn a_port_that_another_process_took_is_told_apart() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let (mut server, end) = launched_on(port).await;
    let error = end.unwrap_err();
    assert!(error.is_port_taken(), "{error:?}");

    // The same data directory does on the next port.
    let port = server.launch().unwrap();
    ready(&server, &options(port, server.password()))
        .await
        .unwrap();
    server.end(Gentleness::Fast).unwrap();
}

/// Clusters of one template share a password: a neighbour answers as if it were ours.
#[tokio::test]
async fn a_neighbour_on_the_port_is_not_taken_for_ours() {
    let neighbour = Cluster::start(LocalConfig::default()).await.unwrap();
    let (_server, end) = launched_on(neighbour.port()).await;
    let error = end.unwrap_err();
    assert!(error.is_port_taken(), "{error:?}");
    assert!(neighbour.is_running());
    neighbour.stop().await.unwrap();
}

#[tokio::test]
async fn a_ps_listing_finds_the_processes_that_proc_shows() {
    if !Path::new("/proc/self/cwd").exists() {
        println!("not tested: this system has no /proc to compare with");
        return;
    }
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let by_ps = cluster.server.processes(processes::from_ps);
    let by_proc = cluster.server.processes(processes::from_proc);
    let postmaster = i32::try_from(cluster.postmaster_pid()).unwrap();
    assert!(by_ps.contains(&postmaster), "{by_ps:?}");
    // Some of the helpers come and go; the checkpointer and its like stay.
    let both: Vec<_> = by_ps.iter().filter(|pid| by_proc.contains(pid)).collect();
    assert!(both.len() > 4, "{by_ps:?} {by_proc:?}");
    cluster.stop().await.unwrap();
}

/// It is found among the cluster's processes, so that the next run ends it should this one be killed.
#[tokio::test]
async fn a_pgbouncer_passes_clients_on_and_ends_with_its_value() {
    let cluster = Arc::new(Cluster::start(LocalConfig::default()).await.unwrap());
    let pooler = PgBouncer::start(Arc::clone(&cluster), PoolMode::Transaction);
    let pooler = pooler.unwrap_or_else(|error| panic!("{error}"));
    let mut client = pooler.options().connect().await.unwrap();
    client.execute("select 1").await.unwrap();
    assert_ne!(pooler.port(), cluster.port());
    let found = cluster.server.processes(processes::from_proc);
    assert!(found.contains(&pooler.pid()), "{found:?}");
    assert!(
        pooler.log().contains("listening on 127.0.0.1"),
        "{}",
        pooler.log()
    );
    let options = pooler.options();
    drop(pooler);
    let refused = options.connect().await.unwrap_err();
    assert!(matches!(refused, sqlx::Error::Io(_)), "{refused:?}");
    let cluster = Arc::into_inner(cluster).expect("nobody else has it");
    cluster.stop().await.unwrap();
}

#[test]
fn run_ids_are_names_of_directories_and_nothing_more() {
    for good in ["r1", "a-b_C", &"x".repeat(40), &unique_run_id()] {
        assert!(is_run_id(good), "{good}");
    }
    for bad in ["", "..", "a/b", "a b", "ä", &"x".repeat(41)] {
        assert!(!is_run_id(bad), "{bad}");
    }
}
