//! A Toxiproxy client that others wrote, toxiproxy_rust 0.1.6, against our HTTP API.
//!
//! The client is blocking and must not be dropped inside a runtime, so each test has a thread for
//! it. It also takes any status for success, so every change is read back.

#![cfg(feature = "toxiproxy")]
#![expect(
    clippy::unwrap_used,
    reason = "the lint's exception for tests does not reach the functions that tests share"
)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use poolproof_faults::{Proxies, serve};
use tokio::sync::oneshot;
use tokio::time::Instant;
use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::{Proxy, ProxyPack};

/// How long a read may take: much longer than any test runs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A latency that no test waits for, in milliseconds.
const FOREVER_MS: u32 = 3_600_000;

/// Runs the embedded server, and `body` with a client of it on a thread of its own.
fn with_client(body: impl FnOnce(&Client, &Proxies) + Send) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (proxies, listener) = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        (Proxies::new(1), listener)
    });
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    std::thread::scope(|scope| {
        let ours = proxies.clone();
        let client = scope.spawn(move || {
            let _stop_also_after_a_panic: oneshot::Sender<()> = stop;
            body(&Client::new(address), &ours);
        });
        runtime.block_on(async {
            let shutdown = async {
                stopped.await.unwrap_err();
            };
            serve(proxies.clone(), listener, shutdown).await.unwrap();
            proxies.shutdown().await;
        });
        client.join().unwrap();
    });
}

/// A server to proxy to, and a proxy in front of it.
fn populate(client: &Client, name: &str) -> (TcpListener, Proxy) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = server.local_addr().unwrap().to_string();
    let pack = ProxyPack::new(name.to_owned(), "127.0.0.1:0".to_owned(), upstream);
    let mut populated = client.populate(vec![pack]).unwrap();
    assert_eq!(populated.len(), 1);
    (server, populated.remove(0))
}

fn link(server: &TcpListener, proxy: &Proxy) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(&proxy.proxy_pack.listen).unwrap();
    let (server, _) = server.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

fn ping_pong((client, server): (&mut TcpStream, &mut TcpStream)) {
    say_hello(client, server);
    say_hello(server, client);
}

fn say_hello(from: &mut TcpStream, to: &mut TcpStream) {
    let mut bytes = [0; 5];
    from.write_all(b"hello").unwrap();
    to.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
}

fn assert_eof(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

/// Name, type, stream and sorted attributes of every toxic, as the client reads them.
fn toxics(proxy: &Proxy) -> Vec<(String, String, String, BTreeMap<String, u32>)> {
    let found = proxy.toxics().unwrap().into_iter();
    found
        .map(|t| {
            (
                t.name,
                t.r#type,
                t.stream,
                t.attributes.into_iter().collect(),
            )
        })
        .collect()
}

#[test]
fn populate_find_all_and_version() {
    with_client(|client, _| {
        assert!(client.is_running());
        assert_eq!(client.version().unwrap(), "{\"version\": \"2.12.0\"}\n");
        let (server, proxy) = populate(client, "compat_all");
        let (mut near, mut far) = link(&server, &proxy);
        ping_pong((&mut near, &mut far));
        let found = client.find_proxy("compat_all").unwrap().proxy_pack;
        assert_eq!(found.listen, proxy.proxy_pack.listen);
        assert_eq!(found.upstream, server.local_addr().unwrap().to_string());
        assert!(found.enabled);
        let all = client.all().unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["compat_all"]);
        let missing = client.find_proxy("nobody").unwrap_err();
        assert!(missing.starts_with("json deserialize failed"), "{missing}");
        proxy.delete().unwrap();
        assert_eq!(client.all().unwrap().len(), 0);
        assert_eof(&mut near);
    });
}

#[test]
fn every_toxic_that_we_have_is_set_and_read_back() {
    with_client(|client, _| {
        let (_server, proxy) = populate(client, "compat_toxics");
        proxy
            .with_latency("downstream".into(), 2000, 100, 1.0)
            .with_bandwidth("upstream".into(), 500, 0.5)
            .with_timeout("downstream".into(), 5000, 0.0);
        let toxic = |name: &str, kind: &str, stream: &str, attributes: &[(&str, u32)]| {
            let attributes = attributes
                .iter()
                .map(|(n, v)| ((*n).to_owned(), *v))
                .collect();
            (
                name.to_owned(),
                kind.to_owned(),
                stream.to_owned(),
                attributes,
            )
        };
        let expected = [
            toxic(
                "bandwidth_upstream",
                "bandwidth",
                "upstream",
                &[("rate", 500)],
            ),
            toxic(
                "latency_downstream",
                "latency",
                "downstream",
                &[("latency", 2000), ("jitter", 100)],
            ),
            toxic(
                "timeout_downstream",
                "timeout",
                "downstream",
                &[("timeout", 5000)],
            ),
        ];
        assert_eq!(toxics(&proxy), expected);
        let toxicity: Vec<f32> = proxy.toxics().unwrap().iter().map(|t| t.toxicity).collect();
        assert_eq!(toxicity, [0.5, 1.0, 0.0]);
        assert_eq!(
            client.all().unwrap()["compat_toxics"]
                .proxy_pack
                .toxics
                .len(),
            3
        );
        proxy.delete_all_toxics().unwrap();
        assert_eq!(toxics(&proxy), []);
    });
}

#[test]
fn a_toxic_takes_effect_and_its_removal_ends_it() {
    with_client(|client, ours| {
        let (server, proxy) = populate(client, "compat_effect");
        let (mut near, mut far) = link(&server, &proxy);
        proxy
            .with_latency("upstream".into(), FOREVER_MS, 0, 1.0)
            .apply(|| {
                near.write_all(b"held").unwrap();
                let deadline = Instant::now() + PATIENCE;
                while ours.stats("compat_effect").unwrap().held_now < 4 {
                    assert!(Instant::now() < deadline, "the toxic holds nothing");
                    std::thread::yield_now();
                }
                far.set_nonblocking(true).unwrap();
                let silent = far.read(&mut [0; 4]).unwrap_err();
                assert_eq!(silent.kind(), ErrorKind::WouldBlock);
                far.set_nonblocking(false).unwrap();
            })
            .unwrap();
        let mut bytes = [0; 4];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"held");
        ping_pong((&mut near, &mut far));
    });
}

#[test]
fn a_timeout_closes_its_links_when_it_is_removed() {
    with_client(|client, _| {
        let (server, proxy) = populate(client, "compat_timeout");
        let (mut near, mut far) = link(&server, &proxy);
        proxy.with_timeout("downstream".into(), 0, 1.0);
        far.write_all(b"swallowed").unwrap();
        client.find_and_reset_proxy("compat_timeout").unwrap();
        assert_eof(&mut near);
        assert_eof(&mut far);
    });
}

#[test]
fn down_refuses_connections_and_ends_established_ones() {
    with_client(|client, _| {
        let (server, proxy) = populate(client, "compat_down");
        let listen = proxy.proxy_pack.listen.clone();
        let (mut near, _far) = link(&server, &proxy);
        proxy
            .with_down(|| {
                assert_eof(&mut near);
                let refused = TcpStream::connect(&listen).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                assert!(!client.find_proxy("compat_down").unwrap().proxy_pack.enabled);
            })
            .unwrap();
        let (mut near, mut far) = link(&server, &proxy);
        ping_pong((&mut near, &mut far));
    });
}

#[test]
fn disable_and_enable_are_read_back() {
    with_client(|client, _| {
        let (_server, proxy) = populate(client, "compat_enable");
        let enabled = || {
            client
                .find_proxy("compat_enable")
                .unwrap()
                .proxy_pack
                .enabled
        };
        proxy.disable().unwrap();
        assert!(!enabled());
        proxy.enable().unwrap();
        assert!(enabled());
    });
}

#[test]
fn reset_enables_and_heals_everything() {
    with_client(|client, _| {
        let (server, proxy) = populate(client, "compat_reset");
        proxy.with_bandwidth("upstream".into(), 0, 1.0);
        proxy.disable().unwrap();
        client.reset().unwrap();
        assert_eq!(toxics(&proxy), []);
        let (mut near, mut far) = link(&server, &proxy);
        ping_pong((&mut near, &mut far));
    });
}
