//! Nothing is left of a run, however it ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::place::Place;
use crate::program::{Ended, Program, eventually};
use crate::traces::{Traces, assert_nothing_left, run_dirs};

#[test]
fn after_a_pass() {
    let place = Place::new();
    let run = place.start(&[]);
    let traces = Traces::of(&place);
    run.end().expect(0);
    traces.assert_gone();
    assert_nothing_left(&place);
    assert!(place.record()["run"]["partial"].is_null());
}

#[test]
fn after_a_violated_guarantee() {
    let place = Place::new();
    let run = place.start(&["--subject", "planted:leak"]);
    let traces = Traces::of(&place);
    run.end().expect(1);
    traces.assert_gone();
    assert_nothing_left(&place);
}

#[test]
fn after_ctrl_c_in_the_middle_of_a_latency() {
    after_a_signal_in_the_middle_of("latency", Signal::SIGINT);
}

#[test]
fn after_sigterm_in_the_middle_of_a_silence() {
    after_a_signal_in_the_middle_of("silence", Signal::SIGTERM);
}

fn after_a_signal_in_the_middle_of(kind: &str, signal: Signal) {
    let place = Place::new().with_long_fault(kind);
    let mut run = place.start(&[]);
    run.wait_for("the fault: ");
    let traces = Traces::of(&place);
    run.signal(signal);
    run.end().expect(130);
    traces.assert_gone();
    assert_nothing_left(&place);

    let partial = place.partial_report();
    assert!(partial.starts_with("interrupted "), "{partial}");
    let record = place.record();
    let fault = &record["faults"][0];
    let (end, load) = (&fault["end_us"], &record["run"]["duration_us"]);
    // Healed at the signal, not at its time: the scenario would have it last for 55 s.
    assert!(end.as_u64().unwrap() < 50_000_000, "{fault}");
    assert!(load.as_u64().unwrap() < 50_000_000, "{record}");
    let notes = record["run"]["notes"].to_string();
    assert!(!notes.contains("could not be healed"), "{notes}");
    assert!(
        !record["run"]["quiescence_us"].is_null(),
        "once healed, all that was in flight ends: {record}"
    );
}

/// Goal: an end while the set-up is under way, in whatever step. Method: a signal as soon as each
/// step shows.
#[test]
fn after_ctrl_c_while_the_server_is_being_started() {
    let steps = ["", "data", "data/PG_VERSION", "data/postmaster.pid"];
    for step in steps {
        let place = Place::new();
        let run = place.start(&[]);
        eventually("the step to show", || {
            run_dirs(&place).iter().any(|dir| dir.join(step).exists())
        });
        run.signal(Signal::SIGINT);
        let ended = run.end().expect(130);
        assert_nothing_left(&place);
        if place.out.join("latest").exists() {
            // The server was ready faster than the signal was sent.
            place.partial_report();
        } else {
            ended.says(&["interrupted before the load began"]);
        }
    }
}

#[test]
fn after_ctrl_c_while_the_first_template_is_being_built() {
    let place = Place::without_home();
    let run = place.start(&[]);
    let templates = place.home.join("templates");
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&templates).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    };
    eventually("the template to be under way", || {
        names().iter().any(|name| name.starts_with(".build-"))
    });
    run.signal(Signal::SIGINT);
    run.end().expect(130);
    assert_nothing_left(&place);
    let half: Vec<_> = names()
        .into_iter()
        .filter(|name| name.starts_with(".build-"))
        .collect();
    assert_eq!(half, Vec::<String>::new());
}

/// A run that is killed cannot clean up; the next one does, and knows the living from the dead.
#[test]
fn after_kill_9_the_next_run_cleans_up_and_lets_a_neighbour_live() {
    let place = Place::new();
    let mut dead = place.start(&["--duration", "60s"]);
    dead.wait_for("slow network: ");
    let dead_traces = Traces::of(&place);
    let mut neighbour = place.start(&["--duration", "8s"]);
    neighbour.wait_for("prepare");
    let neighbour_traces = Traces::of_another(&place, &[&dead_traces]);

    dead.signal(Signal::SIGKILL);
    assert_eq!(dead.end().status.signal(), Some(9));
    dead_traces.assert_present();

    let mut next = place.start(&["--duration", "60s"]);
    next.wait_for("postgres");
    dead_traces.assert_gone();
    assert!(neighbour.is_running(), "it must live to be spared");
    neighbour_traces.assert_present();
    let next_traces = Traces::of_another(&place, &[&neighbour_traces]);
    next.signal(Signal::SIGINT);
    next.end().expect(130);
    next_traces.assert_gone();

    neighbour.end().expect(0);
    neighbour_traces.assert_gone();
    assert_nothing_left(&place);
}

#[test]
fn after_the_death_of_the_server() {
    let place = Place::new();
    let mut run = place.start(&["--duration", "60s"]);
    run.wait_for("slow network: ");
    let traces = Traces::of(&place);
    traces.kill_postmaster();
    let Ended { stdout, .. } = run.end().expect(3);
    traces.assert_gone();
    assert_nothing_left(&place);

    let partial = place.partial_report();
    assert!(partial.starts_with("the server died "), "{partial}");
    // What is read first says what the exit code says.
    assert!(stdout.starts_with("! SERVER LOST"), "{stdout}");
    let record = place.record();
    assert_eq!(record["verdict"], "inconclusive");
    assert_eq!(record["run"]["cut_short"], "server-lost");
    // The cause, and where to read on: the server's log would go with the cluster.
    assert!(stdout.contains("SIGKILL"), "{stdout}");
    assert!(stdout.contains("server.log"), "{stdout}");
    let log = std::fs::read_to_string(place.out.join("latest/server.log")).unwrap();
    assert!(log.contains("database system is ready"), "{log}");
}

#[test]
fn after_two_ctrl_c_in_a_row() {
    let place = Place::new().with_long_fault("silence");
    let mut run = place.start(&[]);
    run.wait_for("the fault: ");
    let traces = Traces::of(&place);
    run.signal(Signal::SIGINT);
    run.wait_for("interrupted: ");
    run.signal(Signal::SIGINT);
    run.end().expect(130);
    traces.assert_gone();
    assert_nothing_left(&place);
}

/// The second signal may come while the server is being stopped already.
#[test]
fn after_a_second_ctrl_c_in_the_middle_of_the_clean_up() {
    let place = Place::new().with_long_fault("latency");
    let mut run = place.start(&[]);
    run.wait_for("the fault: ");
    let traces = Traces::of(&place);
    run.signal(Signal::SIGINT);
    run.wait_for("look");
    run.signal(Signal::SIGINT);
    // It may have come too late to skip the report; the exit code is the same.
    run.end().expect(130);
    traces.assert_gone();
    assert_nothing_left(&place);
}

#[test]
fn after_ctrl_c_on_a_proxy_that_serves() {
    let place = Place::without_home();
    let mut proxy = Program::start(place.program(&["proxy", "--listen", "127.0.0.1:0"]));
    let line = proxy.next_result();
    let api: SocketAddr = line.rsplit('/').next().unwrap().parse().unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let body = format!(
        r#"{{"name": "p", "listen": "127.0.0.1:0", "upstream": "{}"}}"#,
        upstream.local_addr().unwrap()
    );
    let answer = post(api, "/proxies", &body);
    let (_, listen) = answer.split_once(r#""listen":"#).expect(&answer);
    let listen: SocketAddr = listen.split('"').nth(1).unwrap().parse().unwrap();
    let mut link = TcpStream::connect(listen).unwrap();
    link.write_all(b"hello").unwrap();
    let (mut through, _) = upstream.accept().unwrap();
    through.read_exact(&mut [0; 5]).unwrap();

    proxy.signal(Signal::SIGINT);
    proxy.end().expect(0);
    // An end or a reset, as long as it is over.
    assert_eq!(link.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(through.read(&mut [0]).unwrap_or(0), 0);
    for address in [api, listen] {
        TcpListener::bind(address).unwrap();
    }
    assert_nothing_left(&place);
    assert!(!place.home.exists(), "a proxy needs no home");
}

fn post(api: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(api).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
