//! Started, used, gone: as the run wants it, and against its will.

use std::time::Duration;

use poolproof_testbed::{Container, ContainerError, Server, settled};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use tokio::task::JoinSet;

use crate::engine::{
    config, containers_of, docker, eventually, has_volume, home, is_there, volumes_of,
};

async fn ask(connection: &mut PgConnection, query: &'static str) -> String {
    let row = sqlx::query(query).fetch_one(connection).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_container_answers_as_asked_and_leaves_nothing_when_it_is_stopped() {
    if !is_there() {
        return;
    }
    let (_dir, home) = home();
    let mut config = config(&[("work_mem", "7 MB"), ("max_connections", "33")]);
    config.home = Some(home.clone());
    let run_id = config.run_id.clone();
    let container = Container::start(config).await.unwrap();
    let id = container.id().to_owned();
    assert_eq!(containers_of(&run_id), [id.as_str()]);
    let volumes = volumes_of(&id);
    assert!(volumes.iter().all(|name| has_volume(name)), "{volumes:?}");

    let mut connection = PgConnection::connect_with(&container.options())
        .await
        .unwrap();
    for (query, expected) in [
        ("show work_mem", "7MB"),
        ("show max_connections", "33"),
        ("show fsync", "on"),
        ("select current_user::text", "poolproof"),
        ("select current_database()::text", "poolproof"),
        ("show is_superuser", "on"),
    ] {
        assert_eq!(ask(&mut connection, query).await, expected, "{query}");
    }
    drop(connection);

    // Nobody beyond this machine gets at a superuser's port.
    let format = "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}";
    assert_eq!(docker(&["inspect", "--format", format, &id]), "127.0.0.1");
    // Straight to it on this machine: through the published port nothing is ever refused.
    assert_ne!(container.options().get_host(), "127.0.0.1");

    let server = Server::Container(container);
    assert!(server.is_running());
    assert_eq!(server.cause_of_death(), None);
    assert!(server.source().starts_with("private container of "));
    let log = server.log_file().unwrap();
    eventually("the log to be kept", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready to accept connections"))
    });
    server.stop().await.unwrap();
    assert!(containers_of(&run_id).is_empty());
    let left: Vec<_> = volumes.iter().filter(|name| has_volume(name)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!home.join("runs").join(&run_id).exists());
}

/// Dropped inside a runtime, and where there is none any more.
#[test]
fn a_dropped_container_leaves_nothing() {
    if !is_there() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (first, second) = (config(&[]), config(&[]));
    let runs = [first.run_id.clone(), second.run_id.clone()];
    let (inside, outside) = runtime.block_on(async {
        let (first, second) = tokio::join!(Container::start(first), Container::start(second));
        (first.unwrap(), second.unwrap())
    });
    assert_eq!(containers_of(&runs[0]).len(), 1);
    runtime.block_on(async move { drop(inside) });
    assert!(containers_of(&runs[0]).is_empty());

    drop(runtime);
    assert_eq!(containers_of(&runs[1]).len(), 1);
    drop(outside);
    assert!(containers_of(&runs[1]).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_given_up_leaves_nothing() {
    if !is_there() {
        return;
    }
    let config = config(&[]);
    let run_id = config.run_id.clone();
    let mut start = JoinSet::new();
    start.spawn(Container::start(config));
    let seen = run_id.clone();
    tokio::task::spawn_blocking(move || {
        eventually("the container", || !containers_of(&seen).is_empty());
    })
    .await
    .unwrap();
    start.shutdown().await;
    tokio::time::timeout(Duration::from_secs(60), settled())
        .await
        .unwrap();
    assert!(containers_of(&run_id).is_empty());
}

#[tokio::test]
async fn a_container_that_somebody_kills_or_removes_is_told() {
    if !is_there() {
        return;
    }
    let container = Container::start(config(&[])).await.unwrap();
    let id = container.id().to_owned();
    let server = Server::Container(container);
    docker(&["kill", &id]);
    eventually("the news of its end", || !server.is_running());
    let cause = server.cause_of_death().unwrap();
    assert_eq!(cause, "its container ended with exit code 137");
    let log = std::fs::read_to_string(server.log_file().unwrap()).unwrap();
    assert!(log.contains("ready to accept connections"), "{log}");

    docker(&["rm", "--force", "--volumes", &id]);
    let removed = || server.cause_of_death().unwrap() == "somebody else removed its container";
    eventually("the news of its removal", removed);
    // What is gone already is no reason to complain.
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_removed_while_it_starts_is_an_error_of_its_own() {
    if !is_there() {
        return;
    }
    let config = config(&[]);
    let run_id = config.run_id.clone();
    let mut start = JoinSet::new();
    start.spawn(Container::start(config));
    tokio::task::spawn_blocking(move || {
        let running = ["ps", "--quiet", "--filter"];
        let filter = format!("label={}={run_id}", poolproof_testbed::RUN_LABEL);
        let list = || docker(&[&running[..], &[&filter]].concat());
        eventually("the container", || !list().is_empty());
        docker(&["rm", "--force", "--volumes", &list()]);
    })
    .await
    .unwrap();
    let error = start.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ContainerError::Removed), "{error:?}");
}
