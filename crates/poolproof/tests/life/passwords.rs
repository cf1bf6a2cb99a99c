//! A password never shows: not on the streams, not in a file, not in `ps`.
//!
//! Every password here begins with [`CANARY`], as it is and percent-encoded alike.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::database::{CANARY, Database};
use crate::place::Place;
use crate::program::{Ended, Program};

const URL_VARIABLE: &str = "POOLPROOF_DATABASE_URL";

/// Starts the program with the URL in its environment.
fn from_environment(place: &Place, arguments: &[&str], url: &str) -> Program {
    let mut command = place.program(arguments);
    command.env(URL_VARIABLE, url).env("RUST_BACKTRACE", "full");
    Program::start(command)
}

#[track_caller]
fn assert_silent(place: &Place, ended: &Ended) {
    assert!(!ended.stdout.contains(CANARY), "{ended}");
    assert!(!ended.stderr.contains(CANARY), "{ended}");
    assert_eq!(files_with_canary(place.root()), Vec::<String>::new());
}

fn files_with_canary(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_with_canary(&path));
        } else if path.is_file() && has_canary(&fs::read(&path).unwrap()) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn has_canary(bytes: &[u8]) -> bool {
    let canary = CANARY.as_bytes();
    bytes.windows(canary.len()).any(|window| window == canary)
}

/// Command lines that show the database's password.
fn processes_with(password: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap();
    let lines = processes.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(password))
        .collect()
}

#[test]
fn in_a_run_that_passes_and_a_check() {
    let place = Place::without_home();
    let database = Database::start();
    let url = database.url("postgresql+asyncpg");
    let arguments = place.arguments(&["--postgres", "env"]);
    let mut run = from_environment(&place, &arguments, &url);
    run.wait_for("slow network: ");
    assert_eq!(processes_with(database.canary()), Vec::<String>::new());
    let ended = run.end().expect(0);
    assert_silent(&place, &ended);
    let replay = place.record()["run"]["replay"].to_string();
    assert!(replay.contains("--postgres env"), "{replay}");

    let ended = from_environment(&place, &["check"], &url).end().expect(0);
    assert_silent(&place, &ended);
    let log = database.log();
    assert!(!log.contains(CANARY), "{log}");
}

#[test]
fn in_a_run_whose_server_goes_away() {
    let place = Place::without_home();
    let mut database = Database::start();
    let arguments = place.arguments(&["--postgres", "env"]);
    let mut run = from_environment(&place, &arguments, &database.url("postgres"));
    run.wait_for("slow network: ");
    database.stop();
    let ended = run.end().expect(3);
    assert_silent(&place, &ended);
}

/// The control: what these tests look for can be found. A URL that is given as an argument is in
/// `ps`, as the help says, but nowhere else.
#[test]
fn in_a_run_that_is_told_by_an_argument_and_interrupted() {
    let place = Place::without_home();
    let database = Database::start();
    let url = database.url("postgres");
    let planted = place.root().join("planted");
    fs::write(&planted, &url).unwrap();
    assert_eq!(files_with_canary(place.root()).len(), 1);
    fs::remove_file(planted).unwrap();

    let mut run = place.start(&["--postgres", &url, "--duration", "60s"]);
    run.wait_for("slow network: ");
    assert_eq!(processes_with(database.canary()).len(), 1);
    run.signal(Signal::SIGTERM);
    let ended = run.end().expect(130);
    assert_silent(&place, &ended);
}

/// Method: each way not to get a connection, by `run` and by `check`.
#[test]
fn when_there_is_no_connection() {
    let place = Place::without_home();
    let database = Database::start();
    let wrong = format!("{CANARY}%2Fwrong");
    let good = database.url("postgres");
    let urls = [
        (database.url_with_password("postgresql", &wrong), 3),
        (format!("postgres://app:{wrong}@127.0.0.1:1/db"), 3),
        (good.replace("/poolproof", "/nosuchdatabase"), 3),
        (format!("{good}?sslmode=require"), 3),
        (format!("postgres://app@127.0.0.1:1/db?password={wrong}"), 3),
        (format!("postgres://app:{CANARY}#x@127.0.0.1:1/db"), 2),
        (format!("postgres://app:{CANARY}/x@127.0.0.1:1/db"), 3),
        (format!("postgres://app:{CANARY}%zz@127.0.0.1:x/db"), 2),
        (
            format!("postgres://app:{wrong}@db.example.com/db?sslmode=maybe"),
            2,
        ),
        (format!("mysql://app:{wrong}@127.0.0.1/db"), 2),
        (format!("app:{wrong}@127.0.0.1/db"), 2),
    ];
    for (url, code) in urls {
        let arguments = place.arguments(&["--postgres", "env"]);
        for arguments in [&arguments[..], &["check"]] {
            let ended = from_environment(&place, arguments, &url).end();
            assert_eq!(ended.status.code(), Some(code), "{url}: {ended}");
            assert_ne!(ended.stderr, "", "{url}: {ended}");
            assert_silent(&place, &ended);
        }
    }
    let log = database.log();
    assert!(!log.contains(CANARY), "{log}");
}
