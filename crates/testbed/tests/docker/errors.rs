//! Each way not to start has its error, and leaves nothing.

use std::process::Output;

use poolproof_testbed::{Container, ContainerConfig, ContainerError, reap};

use crate::engine::{command, config, containers_of, home, is_there};

const HOME_OF_HELPER: &str = "POOLPROOF_TEST_HELPER_HOME";

/// This test binary again, where no engine is.
fn without_an_engine(test: &str, home: &std::path::Path) -> Output {
    command(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env(HOME_OF_HELPER, home)
        .output()
        .unwrap()
}

#[test]
#[ignore = "not a test: the process that has no engine"]
fn start_without_an_engine() {
    let Some(home) = std::env::var_os(HOME_OF_HELPER) else {
        return;
    };
    let config = ContainerConfig {
        home: Some(home.into()),
        ..ContainerConfig::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(Container::start(config)).unwrap_err();
    println!("\nerror: {error}\nhelp: {}", error.help().unwrap());
}

#[test]
fn without_an_engine_the_error_says_where_it_was_looked_for() {
    let (_dir, home) = home();
    let output = without_an_engine("errors::start_without_an_engine", &home);
    let said = String::from_utf8_lossy(&output.stdout);
    for words in [
        "error: reach a container engine at unix:///nonexistent/docker.sock",
        "DOCKER_HOST",
        "--postgres local",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!home.exists(), "made before it was known to be of use");
}

#[test]
#[ignore = "not a test: the process that has no engine"]
fn reap_without_an_engine() {
    let Some(home) = std::env::var_os(HOME_OF_HELPER) else {
        return;
    };
    let reaped = reap(Some(home.into())).unwrap();
    println!("\nremoved {:?}", reaped.removed);
    for (run, error) in reaped.failed {
        println!("failed {run}: {error}");
    }
}

/// Else nobody would look for the container any more.
#[test]
fn what_is_known_of_a_dead_runs_container_stays_until_an_engine_is_there() {
    let (_dir, home) = home();
    for (run, token) in [("asked", "0123456789abcdef0123456789abcdef"), ("never", "")] {
        let dir = home.join("runs").join(run);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("container"), token).unwrap();
    }
    let output = without_an_engine("errors::reap_without_an_engine", &home);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("removed [\"never\"]"), "{said}");
    assert!(
        said.contains("failed asked: remove the server's container"),
        "{said}"
    );
    assert!(home.join("runs/asked/container").exists());
    assert!(!home.join("runs/never").exists());
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_told() {
    if !is_there() {
        return;
    }
    let config = ContainerConfig {
        // A registry that refuses: nobody outside is asked.
        image: "127.0.0.1:1/nosuch:1".parse().unwrap(),
        ..ContainerConfig::default()
    };
    let error = Container::start(config).await.unwrap_err();
    assert!(
        matches!(&error, ContainerError::NoImage { image, .. } if image == "127.0.0.1:1/nosuch:1"),
        "{error:?}"
    );
    let help = error.help().unwrap();
    assert!(help.contains("docker/build-images"), "{help}");
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_told_in_its_words() {
    if !is_there() {
        return;
    }
    for (name, value) in [("max_conections", "5"), ("work_mem", "much")] {
        let config = config(&[(name, value)]);
        let run_id = config.run_id.clone();
        let error = Container::start(config).await.unwrap_err();
        let ContainerError::SettingRefused { refused } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(refused[0].name, name, "{refused:?}");
        assert!(containers_of(&run_id).is_empty());
    }
}

#[tokio::test]
async fn a_reserved_setting_is_refused_before_there_is_a_container() {
    if !is_there() {
        return;
    }
    let config = config(&[("port", "1")]);
    let run_id = config.run_id.clone();
    let error = Container::start(config).await.unwrap_err();
    assert!(matches!(error, ContainerError::Setting(_)), "{error:?}");
    assert!(containers_of(&run_id).is_empty());
}

#[tokio::test]
async fn two_living_runs_cannot_have_one_name() {
    if !is_there() {
        return;
    }
    let first = config(&[]);
    let second = first.clone();
    let container = Container::start(first).await.unwrap();
    let error = Container::start(second).await.unwrap_err();
    assert!(
        matches!(error, ContainerError::RunTaken { .. }),
        "{error:?}"
    );
    assert!(container.is_running());
    container.stop().await.unwrap();
}
