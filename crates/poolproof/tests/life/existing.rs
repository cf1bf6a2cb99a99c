//! Runs on a server that exists: it is used, left as it was, and may go away.

use std::net::{IpAddr, TcpListener, UdpSocket};

use nix::sys::signal::Signal;

use crate::database::Database;
use crate::place::Place;
use crate::traces::assert_nothing_left;

#[test]
fn a_run_passes_in_a_schema_of_its_own_and_drops_it() {
    let place = Place::without_home();
    let database = Database::start();
    let mut run = place.start(&["--postgres", &database.url("postgresql+asyncpg")]);
    run.wait_for("prepare");
    assert_eq!(database.schemas().len(), 1);
    run.end().expect(0);
    assert_eq!(database.schemas(), Vec::<String>::new());
    database.assert_own_tables_untouched();
    assert_nothing_left(&place);
    assert!(!place.home.exists(), "an existing server needs no home");
}

/// Method: besides what the killed run leaves there is a schema whose run is alive, as its lock
/// shows, and one that belongs to somebody else.
#[test]
fn after_kill_9_the_next_run_drops_the_stale_schema_and_no_other() {
    let place = Place::without_home();
    let database = Database::start();
    let (alive, foreign) = ("poolproof_000000000a11fe00", "poolproof_000000000f0e1640");
    database.ask(&format!("create schema {alive} authorization app"));
    database.ask(&format!("create schema {foreign}"));
    let lock = database.lock(alive);
    let url = database.url("postgresql+psycopg2");

    let mut dead = place.start(&["--duration", "60s", "--postgres", &url]);
    dead.wait_for("slow network: ");
    let mut schemas = database.schemas();
    schemas.retain(|name| name != alive && name != foreign);
    assert_eq!(schemas.len(), 1);
    dead.signal(Signal::SIGKILL);
    dead.end();
    assert!(database.schemas().contains(&schemas[0]), "left behind");

    let mut next = place.start(&["--duration", "60s", "--postgres", &url]);
    next.wait_for("slow network: ");
    assert!(!database.schemas().contains(&schemas[0]));
    next.signal(Signal::SIGINT);
    next.end().expect(130);
    assert_eq!(database.schemas(), [alive, foreign]);
    drop(lock);
    database.ask(&format!("drop schema {alive}"));
    database.ask(&format!("drop schema {foreign}"));
    database.assert_own_tables_untouched();
    assert_nothing_left(&place);
}

#[test]
fn ctrl_c_drops_the_schema_in_whatever_phase_it_comes() {
    let place = Place::without_home().with_long_fault("latency");
    let database = Database::start();
    let url = database.url("postgres");
    for news in ["postgres", "prepare", "the fault: "] {
        let mut run = place.start(&["--postgres", &url]);
        run.wait_for(news);
        run.signal(Signal::SIGINT);
        run.end().expect(130);
        assert_eq!(database.schemas(), Vec::<String>::new(), "after {news}");
    }
    database.assert_own_tables_untouched();
    assert_nothing_left(&place);
}

/// Method: no login takes a millisecond only, which is found out when the schema is there already.
#[test]
fn a_failed_set_up_drops_the_schema() {
    let place = Place::without_home().with("pool_timeout = \"2s\"", "pool_timeout = \"1ms\"");
    let database = Database::start();
    let url = database.url("postgres");
    let run = place.start(&["--subject", "sqlx", "--postgres", &url]);
    run.end()
        .expect(3)
        .says(&["the subject sqlx could not be built", "within pool_timeout"]);
    assert_eq!(database.schemas(), Vec::<String>::new());
    assert_nothing_left(&place);
    assert!(!place.out.join("latest").exists());
}

#[test]
fn a_wrong_password_exits_with_3_and_the_remedy() {
    let place = Place::without_home();
    let database = Database::start();
    let url = database.url_with_password("postgresql", "wrong");
    let ended = place.start(&["--postgres", &url]).end().expect(3);
    ended.says(&[
        "no connection to 127.0.0.1",
        "password authentication failed for user \"app\"",
        "user or password are wrong",
    ]);
    assert_nothing_left(&place);
    assert!(!place.out.join("latest").exists(), "{ended}");
}

#[test]
fn a_server_that_goes_away_ends_in_3_with_a_partial_report() {
    let place = Place::without_home();
    let mut database = Database::start();
    let mut run = place.start(&["--postgres", &database.url("postgres")]);
    run.wait_for("slow network: ");
    database.stop();
    let ended = run.end().expect(3);
    assert!(
        ended.stdout.contains("the server answers no more"),
        "{ended}"
    );
    assert!(ended.stdout.contains("see whether it is up"), "{ended}");
    // A pool is not to blame for a server that is gone.
    assert!(!ended.stdout.contains("violated"), "{ended}");
    let partial = place.partial_report();
    assert!(partial.contains("server was gone"), "{partial}");
    let notes = place.record()["run"]["notes"].to_string();
    assert!(notes.contains("was not dropped"), "{notes}");
    assert_nothing_left(&place);
}

/// Method: the "remote host" is this machine by an address that is not loopback, so that it would
/// be noticed if somebody knocked.
#[test]
fn a_remote_host_is_refused_before_anything_is_touched() {
    let place = Place::without_home();
    let Some(address) = address_of_this_machine() else {
        println!("not tested: a remote host, because this machine has no address but loopback");
        return;
    };
    let listener = TcpListener::bind((address, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("postgres://app:x@{}/shop", listener.local_addr().unwrap());
    for consent in [
        &[][..],
        &["--allow-remote", "--confirm-database", "shopp"][..],
    ] {
        let options = [&["--postgres", url.as_str()][..], consent].concat();
        let ended = place.start(&options).end().expect(2);
        ended.says(&["--confirm-database"]);
        let knocked = listener.accept().map_err(|error| error.kind());
        assert_eq!(knocked.unwrap_err(), std::io::ErrorKind::WouldBlock);
        assert!(!place.home.exists() && !place.out.exists(), "{ended}");
    }
}

fn address_of_this_machine() -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing: it only looks up the way.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
