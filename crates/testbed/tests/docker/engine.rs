//! The engine, looked at by other means than the crate's own: the `docker` program.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use poolproof_testbed::{ContainerConfig, ImageName, RUN_LABEL};

const REQUIRED: &str = "POOLPROOF_REQUIRE_DOCKER";
const IMAGE: &str = "POOLPROOF_TEST_IMAGE";
/// What docker/build-images makes.
const OWN_IMAGE: &str = "poolproof-postgres:15";

/// Whether containers can be started here. Where not, says what was not tested.
pub(crate) fn is_there() -> bool {
    let lacking = if !succeeds(&["info"]) {
        "no container engine".to_owned()
    } else if !succeeds(&["image", "inspect", &image_name()]) {
        format!("no image {} (docker/build-images makes it)", image_name())
    } else {
        return true;
    };
    let required = std::env::var_os(REQUIRED).is_some_and(|value| value == "1");
    assert!(!required, "{REQUIRED}=1, and there is {lacking}");
    println!("not tested: {lacking}");
    false
}

fn image_name() -> String {
    std::env::var(IMAGE).unwrap_or_else(|_| OWN_IMAGE.to_owned())
}

pub(crate) fn image() -> ImageName {
    image_name().parse().unwrap()
}

/// A home of its own: in the common one a neighbour test might reap what this one has planted.
pub(crate) fn home() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = dir.path().canonicalize().unwrap().join("home");
    (dir, home)
}

pub(crate) fn config(settings: &[(&str, &str)]) -> ContainerConfig {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    ContainerConfig {
        image: image(),
        settings: settings.iter().map(own).collect(),
        ..ContainerConfig::default()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the processes to look with are started here"
)]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

fn run(arguments: &[&str]) -> Option<Output> {
    command("docker").args(arguments).output().ok()
}

fn succeeds(arguments: &[&str]) -> bool {
    run(arguments).is_some_and(|output| output.status.success())
}

/// What `docker` prints.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = run(arguments).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The containers of a run, in whatever state.
pub(crate) fn containers_of(run_id: &str) -> Vec<String> {
    let filter = format!("label={RUN_LABEL}={run_id}");
    let listing = docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]);
    listing.lines().map(str::to_owned).collect()
}

pub(crate) fn volumes_of(id: &str) -> Vec<String> {
    let format = "{{range .Mounts}}{{.Name}}\n{{end}}";
    let listing = docker(&["inspect", "--format", format, id]);
    listing.lines().map(str::to_owned).collect()
}

pub(crate) fn has_volume(name: &str) -> bool {
    succeeds(&["volume", "inspect", name])
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _look in 0..3000 {
        if holds() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("waited long for {what}");
}
