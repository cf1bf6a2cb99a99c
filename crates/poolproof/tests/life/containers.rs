//! Runs on a Postgres in a container.
//!
//! Without an engine these say in a line what was not tested, and fail where
//! `POOLPROOF_REQUIRE_DOCKER=1` promised one.

use std::process::{Command, Output};

use nix::sys::signal::Signal;

use crate::place::Place;
use crate::program::eventually;
use crate::traces::{assert_nothing_left, run_dirs};

/// What docker/build-images makes.
const IMAGE: &str = "poolproof-postgres:15";
const WHERE: &str = "docker:poolproof-postgres:15";

#[expect(
    clippy::disallowed_methods,
    reason = "looked at by other means than the program's own"
)]
fn docker(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("docker").args(arguments).output().ok()?;
    output.status.success().then_some(output)
}

fn engine_is_there() -> bool {
    let lacking = if docker(&["info"]).is_none() {
        "no container engine".to_owned()
    } else if docker(&["image", "inspect", IMAGE]).is_none() {
        format!("no image {IMAGE} (docker/build-images makes it)")
    } else {
        return true;
    };
    let required = std::env::var_os("POOLPROOF_REQUIRE_DOCKER").is_some_and(|value| value == "1");
    assert!(
        !required,
        "POOLPROOF_REQUIRE_DOCKER=1, and there is {lacking}"
    );
    println!("not tested: {lacking}");
    false
}

/// The containers of the place's one run, which its directory names.
fn containers(run: &str) -> Vec<String> {
    let filter = format!("label=poolproof.run={run}");
    let listing = docker(&["ps", "--all", "--quiet", "--filter", &filter]).unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    listing.lines().map(str::to_owned).collect()
}

/// Waits until the place's one run has a container, and returns the run's name.
fn run_with_a_container(place: &Place) -> String {
    let mut name = String::new();
    eventually("the container", || {
        let dirs = run_dirs(place);
        let Some(dir) = dirs.first() else {
            return false;
        };
        name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        !containers(&name).is_empty()
    });
    name
}

#[test]
fn a_run_in_a_container_passes_and_leaves_nothing() {
    if !engine_is_there() {
        return;
    }
    let place = Place::new().with(
        "dynamic_shared_memory_type = \"posix\"",
        "max_connections = 31",
    );
    let run = place.start(&["--postgres", WHERE]);
    let name = run_with_a_container(&place);
    run.end().expect(0);
    assert_eq!(containers(&name), Vec::<String>::new());
    assert_nothing_left(&place);
    let record = place.record();
    let environment = &record["environment"];
    assert_eq!(
        environment["postgres_source"],
        format!("private container of {IMAGE}")
    );
    assert_eq!(environment["postgres_settings"]["max_connections"], "31");
    let replay = record["run"]["replay"].as_str().unwrap();
    assert!(
        replay.ends_with(" --postgres docker:poolproof-postgres:15"),
        "{replay}"
    );
}

#[test]
fn a_container_that_somebody_removes_ends_the_run_with_that_cause() {
    if !engine_is_there() {
        return;
    }
    let place = Place::new();
    let mut run = place.start(&["--postgres", WHERE, "--duration", "60s"]);
    run.wait_for("slow network: ");
    let name = run_with_a_container(&place);
    for id in containers(&name) {
        docker(&["rm", "--force", "--volumes", &id]).unwrap();
    }
    let ended = run.end().expect(3);
    assert!(ended.stdout.starts_with("! SERVER LOST"), "{ended}");
    assert!(
        ended.stdout.contains("somebody else removed its container"),
        "{ended}"
    );
    assert_nothing_left(&place);
    // The engine's own copy went with the container.
    let log = std::fs::read_to_string(place.out.join("latest/server.log")).unwrap();
    assert!(log.contains("database system is ready"), "{log}");
}

#[test]
fn ctrl_c_while_the_container_starts_leaves_nothing() {
    if !engine_is_there() {
        return;
    }
    let place = Place::new();
    let run = place.start(&["--postgres", WHERE]);
    let name = run_with_a_container(&place);
    run.signal(Signal::SIGINT);
    run.end().expect(130);
    assert_eq!(containers(&name), Vec::<String>::new());
    assert_nothing_left(&place);
}

/// The next run need not use containers itself.
#[test]
fn a_killed_runs_container_goes_with_the_next_run() {
    if !engine_is_there() {
        return;
    }
    let place = Place::new();
    let mut run = place.start(&["--postgres", WHERE, "--duration", "60s"]);
    run.wait_for("slow network: ");
    let name = run_with_a_container(&place);
    run.signal(Signal::SIGKILL);
    run.end();
    assert_eq!(containers(&name).len(), 1);
    place.start(&[]).end().expect(0);
    assert_eq!(containers(&name), Vec::<String>::new());
    assert_nothing_left(&place);
}
