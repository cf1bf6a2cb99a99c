//! The HTTP API, byte by byte, against what Toxiproxy 2.12 answers.

use std::io::ErrorKind;

use poolproof_faults::{Proxies, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::support::within;

struct Api {
    address: String,
    proxies: Proxies,
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Api {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let proxies = Proxies::new(1);
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        let served = proxies.clone();
        task.spawn(async move {
            let shutdown = async { stopped.await.unwrap() };
            serve(served, listener, shutdown).await.unwrap();
        });
        Self {
            address,
            proxies,
            stop,
            task,
        }
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call_as("test/1.0", (method, path, body)).await
    }

    async fn call_as(&self, agent: &str, (method, path, body): (&str, &str, &str)) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: toxiproxy\r\nUser-Agent: {agent}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    async fn expect(&self, (method, path, body): (&str, &str, &str), status: u16, answer: &str) {
        let got = self.call(method, path, body).await;
        let request = format!("{method} {path} {body}");
        assert_eq!(
            (got.status, got.body.as_str()),
            (status, answer),
            "{request}"
        );
    }

    async fn expect_error(&self, request: (&str, &str, &str), status: u16, error: &str) {
        let body = format!("{{\"error\":\"{error}\",\"status\":{status}}}\n");
        self.expect(request, status, &body).await;
    }

    /// Creates a disabled proxy, whose JSON has no port that changes from run to run.
    async fn create(&self, name: &str) {
        let body = format!(
            r#"{{"name":"{name}","listen":"127.0.0.1:1","upstream":"127.0.0.1:2","enabled":false}}"#
        );
        self.expect(("POST", "/proxies", &body), 201, &disabled(name, ""))
            .await;
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn disabled(name: &str, toxics: &str) -> String {
    format!(
        r#"{{"name":"{name}","listen":"127.0.0.1:1","upstream":"127.0.0.1:2","enabled":false,"toxics":[{toxics}]}}"#
    )
}

const LATENCY: &str = r#"{"attributes":{"latency":40,"jitter":0},"name":"latency_downstream","type":"latency","stream":"downstream","toxicity":1}"#;

#[tokio::test]
async fn version_is_that_of_toxiproxy_to_the_byte() {
    let api = Api::start().await;
    let answer = api.call("GET", "/version", "").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "{\"version\": \"2.12.0\"}\n")
    );
    assert_eq!(
        answer.header("content-type"),
        Some("application/json;charset=utf-8")
    );
}

#[tokio::test]
async fn every_routed_answer_has_its_own_request_id() {
    let api = Api::start().await;
    let id = async |request: (&str, &str)| {
        let answer = api.call(request.0, request.1, "").await;
        answer.header("x-toxiproxy-request-id").map(str::to_owned)
    };
    let first = id(("GET", "/version")).await.unwrap();
    assert_eq!(first.len(), 20);
    assert_ne!(id(("GET", "/version")).await.unwrap(), first);
    assert_ne!(id(("GET", "/proxies/nope")).await, None);
    assert_eq!(id(("GET", "/nope")).await, None);
    assert_eq!(id(("PUT", "/version")).await, None);
}

#[tokio::test]
async fn errors_are_json_that_calls_itself_text() {
    let api = Api::start().await;
    let answer = api.call("GET", "/proxies/nope", "").await;
    assert_eq!(
        answer.body,
        "{\"error\":\"proxy not found\",\"status\":404}\n"
    );
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_browsers_are_refused() {
    let api = Api::start().await;
    let not_found = "404 page not found\n";
    for path in ["/", "/metrics", "/proxies/a/b", "/proxies/"] {
        api.expect(("GET", path, ""), 404, not_found).await;
    }
    let answer = api.call("GET", "/nope", "").await;
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    for (method, path) in [
        ("PUT", "/version"),
        ("HEAD", "/version"),
        ("GET", "/reset"),
        ("GET", "/populate"),
        ("DELETE", "/proxies"),
        ("PUT", "/proxies/a"),
        ("DELETE", "/proxies/a/toxics"),
        ("PUT", "/proxies/a/toxics/t"),
    ] {
        api.expect((method, path, ""), 405, "").await;
    }
    let browser = api
        .call_as("Mozilla/5.0 (X11)", ("GET", "/version", ""))
        .await;
    assert_eq!(
        (browser.status, browser.body.as_str()),
        (403, "User agent not allowed\n")
    );
}

#[tokio::test]
async fn proxies_are_created_shown_listed_and_deleted() {
    let api = Api::start().await;
    api.expect(("GET", "/proxies", ""), 200, "{}").await;
    api.create("b").await;
    api.create("a").await;
    api.expect(("GET", "/proxies/a", ""), 200, &disabled("a", ""))
        .await;
    let listed = format!(r#"{{"a":{},"b":{}}}"#, disabled("a", ""), disabled("b", ""));
    api.expect(("GET", "/proxies", ""), 200, &listed).await;
    let shown = api.call("GET", "/proxies", "").await;
    assert_eq!(shown.header("content-type"), Some("application/json"));
    api.expect(("DELETE", "/proxies/a", ""), 204, "").await;
    api.expect_error(("DELETE", "/proxies/a", ""), 404, "proxy not found")
        .await;
    api.expect_error(("GET", "/proxies/a", ""), 404, "proxy not found")
        .await;
}

#[tokio::test]
async fn proxies_that_cannot_be_are_refused_with_the_originals_words() {
    let api = Api::start().await;
    api.create("pg").await;
    let create = |body| ("POST", "/proxies", body);
    api.expect_error(create(""), 400, "bad request body: EOF")
        .await;
    api.expect_error(create("{}"), 400, "missing required field: name")
        .await;
    let nowhere = create(r#"{"name":"x"}"#);
    api.expect_error(nowhere, 400, "missing required field: upstream")
        .await;
    let again = create(r#"{"name":"pg","upstream":"u:1"}"#);
    api.expect_error(again, 409, "proxy already exists").await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let body = format!(r#"{{"name":"x","upstream":"u:1","listen":"{address}"}}"#);
    let words = format!("listen tcp {address}: bind: address already in use");
    api.expect_error(create(&body), 500, &words).await;
    let bad = create(r#"{"name":"x","upstream":"u:1","listen":"nowhere"}"#);
    let words = "listen tcp: address nowhere: missing port in address";
    api.expect_error(bad, 500, words).await;
}

#[tokio::test]
async fn a_proxy_is_updated_by_post_and_by_patch() {
    let api = Api::start().await;
    api.create("pg").await;
    let moved = disabled("pg", "").replace("127.0.0.1:2", "127.0.0.1:3");
    let body = r#"{"Upstream":"127.0.0.1:3","name":"other","unknown":1}"#;
    api.expect(("POST", "/proxies/pg", body), 200, &moved).await;
    api.expect(("PATCH", "/proxies/pg", "{}"), 200, &moved)
        .await;
    let listen = api
        .call(
            "POST",
            "/proxies/pg",
            r#"{"listen":"127.0.0.1:0","enabled":true}"#,
        )
        .await;
    assert_eq!(listen.status, 200);
    assert!(listen.body.contains(r#""enabled":true"#), "{}", listen.body);
    assert!(!listen.body.contains(r#":0""#), "{}", listen.body);
    api.expect_error(("POST", "/proxies/nope", "{"), 404, "proxy not found")
        .await;
    let broken = ("POST", "/proxies/pg", "{");
    api.expect_error(broken, 400, "bad request body: unexpected EOF")
        .await;
}

#[tokio::test]
async fn toxics_are_added_with_200_changed_by_key_and_removed() {
    let api = Api::start().await;
    api.create("pg").await;
    let all = "/proxies/pg/toxics";
    let one = "/proxies/pg/toxics/latency_downstream";
    api.expect(("GET", all, ""), 200, "[]").await;
    let body = r#"{"type":"latency","attributes":{"latency":40}}"#;
    api.expect(("POST", all, body), 200, LATENCY).await;
    api.expect(("GET", one, ""), 200, LATENCY).await;
    let up = r#"{"attributes":{"rate":0},"name":"up","type":"bandwidth","stream":"upstream","toxicity":0.5}"#;
    let body = r#"{"name":"up","type":"bandwidth","stream":"Upstream","toxicity":0.5}"#;
    api.expect(("POST", all, body), 200, up).await;
    api.expect(("GET", all, ""), 200, &format!("[{up},{LATENCY}]"))
        .await;
    let both = format!("{up},{LATENCY}");
    api.expect(("GET", "/proxies/pg", ""), 200, &disabled("pg", &both))
        .await;

    let jittery = LATENCY.replace(r#""jitter":0"#, r#""jitter":7"#);
    let body =
        r#"{"name":"x","type":"timeout","stream":"upstream","attributes":{"JITTER":7,"typo":1}}"#;
    api.expect(("POST", one, body), 200, &jittery).await;
    let rare = jittery.replace(r#""toxicity":1"#, r#""toxicity":0.25"#);
    api.expect(("PATCH", one, r#"{"toxicity":0.25}"#), 200, &rare)
        .await;

    api.expect(("DELETE", one, ""), 204, "").await;
    api.expect_error(("DELETE", one, ""), 404, "toxic not found")
        .await;
}

#[tokio::test]
async fn toxics_that_cannot_be_are_refused_and_change_nothing() {
    let api = Api::start().await;
    api.create("pg").await;
    let all = "/proxies/pg/toxics";
    let add = |body| ("POST", all, body);
    api.expect(
        add(r#"{"type":"latency","attributes":{"latency":40}}"#),
        200,
        LATENCY,
    )
    .await;
    let type_error = "invalid toxic type";
    for unknown in ["{}", r#"{"type":"latencie"}"#, r#"{"type":"Latency"}"#] {
        api.expect_error(add(unknown), 400, type_error).await;
    }
    let stream_error = "stream was invalid, can be either upstream or downstream";
    api.expect_error(add(r#"{"type":"noop","stream":"both"}"#), 400, stream_error)
        .await;
    api.expect_error(add(r#"{"type":"latency"}"#), 409, "toxic already exists")
        .await;
    let nowhere = ("POST", "/proxies/nope/toxics", "{");
    api.expect_error(nowhere, 404, "proxy not found").await;
    for (kind, attributes) in [
        ("latency", r#"{"latency":1.5}"#),
        ("bandwidth", r#"{"rate":-1}"#),
        ("timeout", r#"{"timeout":"100"}"#),
        ("reset_peer", r#"{"timeout":4294967296}"#),
    ] {
        let body = format!(r#"{{"name":"bad","type":"{kind}","attributes":{attributes}}}"#);
        let answer = api.call("POST", all, &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(
            answer.body.starts_with(r#"{"error":"bad request body: "#),
            "{}",
            answer.body
        );
    }
    let bad = r#"{"attributes":{"latency":5,"jitter":-1},"toxicity":0}"#;
    let patch = ("PATCH", "/proxies/pg/toxics/latency_downstream", bad);
    let words = "bad request body: cannot read number -1 as an integer from 0 to 4294967295 in field jitter";
    api.expect_error(patch, 400, words).await;
    api.expect(("GET", all, ""), 200, &format!("[{LATENCY}]"))
        .await;
    api.expect_error(
        ("PATCH", "/proxies/pg/toxics/t", "{"),
        404,
        "toxic not found",
    )
    .await;
    api.expect_error(
        ("GET", "/proxies/nope/toxics/t", ""),
        404,
        "proxy not found",
    )
    .await;
}

#[tokio::test]
async fn populate_answers_in_request_order_and_wraps_its_errors() {
    let api = Api::start().await;
    let proxy = |name: &str| {
        format!(
            r#"{{"name":"{name}","listen":"127.0.0.1:1","upstream":"127.0.0.1:2","enabled":false}}"#
        )
    };
    let body = format!("[{},{}]", proxy("b"), proxy("a"));
    let done = format!(
        r#"{{"proxies":[{},{}]}}"#,
        disabled("b", ""),
        disabled("a", "")
    );
    api.expect(("POST", "/populate", &body), 201, &done).await;
    api.expect(("POST", "/populate", "[]"), 201, r#"{"proxies":null}"#)
        .await;

    let body = format!(r#"[{},{{"name":"x"}}]"#, proxy("new"));
    let refused =
        r#"{"error":"missing required field: upstream at proxy 2","status":400,"proxies":null}"#;
    api.expect(("POST", "/populate", &body), 400, refused).await;
    api.expect_error(("GET", "/proxies/new", ""), 404, "proxy not found")
        .await;
    let answer = api.call("POST", "/populate", "{}").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (400, Some("application/json"))
    );
    assert!(
        answer.body.ends_with(r#","status":400,"proxies":null}"#),
        "{}",
        answer.body
    );

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let body = format!(
        r#"[{},{{"name":"x","upstream":"u:1","listen":"{address}"}}]"#,
        proxy("c")
    );
    let half = format!(
        r#"{{"error":"listen tcp {address}: bind: address already in use","status":500,"proxies":[{}]}}"#,
        disabled("c", "")
    );
    api.expect(("POST", "/populate", &body), 500, &half).await;
}

#[tokio::test]
async fn reset_enables_every_proxy_and_removes_every_toxic() {
    let api = Api::start().await;
    let body = r#"{"name":"pg","listen":"127.0.0.1:0","upstream":"127.0.0.1:2"}"#;
    assert_eq!(api.call("POST", "/proxies", body).await.status, 201);
    assert_eq!(
        api.call("POST", "/proxies/pg/toxics", r#"{"type":"noop"}"#)
            .await
            .status,
        200
    );
    assert_eq!(
        api.call("POST", "/proxies/pg", r#"{"enabled":false}"#)
            .await
            .status,
        200
    );
    api.expect(("POST", "/reset", ""), 204, "").await;
    let view = api.proxies.get("pg").await.unwrap();
    assert_eq!((view.enabled, view.toxics.len()), (true, 0));
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let api = Api::start().await;
    let mut stream = TcpStream::connect(&api.address).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"{\"version\": \"2.12.0\"}\n") {
            text.push(within(stream.read_u8()).await.unwrap());
        }
    }
}

#[tokio::test]
async fn the_end_of_the_api_closes_idle_connections_and_leaves_no_task() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let mut api = Api::start().await;
    let mut idle = TcpStream::connect(&api.address).await.unwrap();
    idle.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    within(idle.readable()).await.unwrap();
    // A request that never ends must not hold up the end.
    let mut half = TcpStream::connect(&api.address).await.unwrap();
    let head =
        b"POST /proxies HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    half.write_all(head).await.unwrap();
    let mut waits_for_body = [0; 25];
    within(half.read_exact(&mut waits_for_body)).await.unwrap();
    assert_eq!(&waits_for_body, b"HTTP/1.1 100 Continue\r\n\r\n");

    api.stop.send(()).unwrap();
    within(api.task.join_next()).await.unwrap().unwrap();
    let mut rest = Vec::new();
    within(idle.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.ends_with(b"{\"version\": \"2.12.0\"}\n"));
    let ended = within(half.read_u8()).await.unwrap_err().kind();
    assert!(
        matches!(ended, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset),
        "{ended:?}"
    );
    api.proxies.shutdown().await;
    drop(api.proxies);
    assert_eq!(tasks(), before);
}
