//! Clusters: started, used, and gone without a trace.

use std::collections::BTreeMap;
use std::path::Path;

use nix::sys::signal::Signal;
use poolproof_testbed::{Admin, Cluster, LocalConfig, StartError};
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};

use crate::traces::{self, Traces};

fn with(settings: &[(&str, &str)]) -> LocalConfig {
    LocalConfig {
        settings: settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..LocalConfig::default()
    }
}

async fn show(cluster: &Cluster, setting: &'static str) -> String {
    let mut connection = PgConnection::connect_with(&cluster.options())
        .await
        .unwrap();
    let row = sqlx::query("select current_setting($1)")
        .bind(setting)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_cluster_answers_and_leaves_nothing_when_it_is_stopped() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let traces = Traces::of(&cluster);
    traces.assert_present();
    assert!(cluster.is_running());

    let mut admin = Admin::connect(cluster.options()).await.unwrap();
    let info = admin.server_info().await.unwrap();
    assert_eq!(info.version_num / 10_000, cluster.version().major);
    assert_eq!((info.max_connections, info.reserved), (100, 3));
    assert_eq!((info.in_use, info.usable()), (1, 96));
    assert_eq!(show(&cluster, "fsync").await, "on");
    assert_eq!(show(&cluster, "listen_addresses").await, "127.0.0.1");
    assert_eq!(show(&cluster, "unix_socket_directories").await, "");

    cluster.stop().await.unwrap();
    traces.assert_gone();
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let traces = Traces::of(&cluster);
    drop(cluster);
    traces.assert_gone();
}

#[tokio::test]
async fn a_panic_takes_its_cluster_along() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let traces = Traces::of(&cluster);
    let panicked = tokio::task::spawn_blocking(move || {
        let _held = cluster;
        std::panic::resume_unwind(Box::new("planned"));
    })
    .await;
    assert!(panicked.unwrap_err().is_panic());
    traces.assert_gone();
}

#[tokio::test]
async fn a_cancelled_start_leaves_nothing() {
    let config = LocalConfig::default();
    let home = poolproof_testbed::default_home().unwrap();
    let run_dir = home.join("runs").join(&config.run_id);
    let mut start = Box::pin(Cluster::start(config));
    // The run directory shows that the start is under way; then it is dropped.
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(1));
    while !run_dir.exists() {
        tokio::select! {
            _ = ticks.tick() => {}
            started = &mut start => panic!("started before it could be cancelled: {started:?}"),
        }
    }
    drop(start);
    traces::eventually("the run directory to go", || !run_dir.exists());
    assert_eq!(traces::processes_in(&run_dir), Vec::<i32>::new());
}

#[tokio::test]
async fn a_server_that_does_not_stop_orderly_is_ended_all_the_same() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let traces = Traces::of(&cluster);
    // A stopped postmaster acts on no signal but SIGKILL and SIGCONT.
    traces::signal(cluster.postmaster_pid(), Signal::SIGSTOP);
    cluster.stop().await.unwrap();
    traces.assert_gone();
}

#[tokio::test]
async fn a_cluster_whose_postmaster_was_killed_leaves_nothing() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let traces = Traces::of(&cluster);
    traces::signal(cluster.postmaster_pid(), Signal::SIGKILL);
    traces::eventually("the postmaster to die", || !cluster.is_running());
    cluster.stop().await.unwrap();
    traces.assert_gone();
}

#[tokio::test]
async fn settings_of_the_scenario_reach_the_server() {
    let config = with(&[
        ("max_connections", "17"),
        ("application_name", "it's \\ 'me'"),
    ]);
    let cluster = Cluster::start(config).await.unwrap();
    assert_eq!(show(&cluster, "max_connections").await, "17");
    let mut connection = PgConnection::connect_with(&cluster.options())
        .await
        .unwrap();
    let row = sqlx::query("select reset_val, boot_val from pg_settings where name = $1")
        .bind("dynamic_shared_memory_type")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "mmap");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_in_its_words() {
    let cases = [
        (
            ("max_conections", "17"),
            "unrecognized configuration parameter \"max_conections\"",
        ),
        (
            ("max_connections", "many"),
            "invalid value for parameter \"max_connections\": \"many\"",
        ),
        (
            ("max_connections", "-1"),
            "-1 is outside the valid range for parameter \"max_connections\"",
        ),
        // Valid by itself, refused with the others or with this machine.
        (
            ("max_connections", "2"),
            "superuser_reserved_connections (3) must be less than max_connections (2)",
        ),
        (
            ("shared_preload_libraries", "nosuch"),
            "could not access file \"nosuch\"",
        ),
    ];
    for ((name, value), said) in cases {
        let config = with(&[(name, value)]);
        let run_dir = poolproof_testbed::default_home()
            .unwrap()
            .join("runs")
            .join(&config.run_id);
        let error = Cluster::start(config).await.unwrap_err();
        let StartError::SettingRefused { refused } = &error else {
            panic!("{error:?}");
        };
        let message = &refused[0].message;
        assert_eq!(refused[0].name, name);
        assert!(message.starts_with(said), "{message}");
        assert!(!message.contains("postgresql.conf"), "{message}");
        assert!(!run_dir.exists());
    }
}

#[tokio::test]
async fn a_server_that_dies_at_its_start_is_quoted() {
    // Its last words are about a file that nobody chose.
    let config = with(&[("ssl", "on")]);
    let error = Cluster::start(config).await.unwrap_err();
    let StartError::Exited { log, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(log.contains("server.crt"), "{log}");
    assert!(error.help().is_some());
}

#[tokio::test]
async fn shared_memory_files_go_too_where_a_scenario_asks_for_them() {
    if !Path::new("/dev/shm").exists() {
        println!("not tested: this system has no /dev/shm");
        return;
    }
    let config = with(&[("dynamic_shared_memory_type", "posix")]);
    let cluster = Cluster::start(config).await.unwrap();
    let mut admin = Admin::connect(cluster.options()).await.unwrap();
    admin.server_info().await.unwrap();
    let traces = Traces::of(&cluster);
    // The segment that lists the others, and the statistics.
    assert!(traces.shared_files().len() > 1, "{traces:?}");
    traces::signal(cluster.postmaster_pid(), Signal::SIGKILL);
    traces::eventually("the postmaster to die", || !cluster.is_running());
    cluster.stop().await.unwrap();
    traces.assert_gone();
}

#[tokio::test]
async fn two_clusters_of_one_run_id_do_not_live_at_once() {
    let first = Cluster::start(LocalConfig::default()).await.unwrap();
    let config = LocalConfig {
        run_id: first.run_id(),
        ..LocalConfig::default()
    };
    let error = Cluster::start(config.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::RunTaken { .. }), "{error:?}");
    assert!(first.is_running());
    first.stop().await.unwrap();
    let second = Cluster::start(config).await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test]
async fn the_password_is_in_no_debug_output_and_no_argument() {
    let cluster = Cluster::start(LocalConfig::default()).await.unwrap();
    let password = traces::password_of(&cluster);
    assert_eq!(password.len(), 48);
    let admin = Admin::connect(cluster.options()).await.unwrap();
    let target = "127.0.0.1/poolproof".to_owned();
    let existing = poolproof_testbed::Existing::new(cluster.options(), target);
    let printed = format!("{cluster:?} {admin:?} {existing:?}");
    assert!(!printed.contains(&password), "{printed}");
    for pid in traces::processes_in(&traces::run_dir(&cluster)) {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!arguments.contains(&password), "{arguments}");
    }
    drop(admin);
    cluster.stop().await.unwrap();
}
