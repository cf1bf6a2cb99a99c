//! Links without toxics: what is carried, how they end, and that nothing is left of them.

use std::sync::Arc;
use std::time::Duration;

use poolproof_faults::{Proxies, ProxyPatch, ProxySpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Bench, End, PG, end_of, ping_pong, receive, send, until, within};

#[tokio::test]
async fn bytes_go_both_ways_and_are_counted() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    send(&mut client, b"hello").await;
    assert_eq!(receive(&mut server, 5).await, b"hello");
    send(&mut server, b"hi").await;
    assert_eq!(receive(&mut client, 2).await, b"hi");
    bench
        .until("all counted", |stats| {
            stats.bytes_up == 5 && stats.bytes_down == 2
        })
        .await;
    let stats = bench.stats();
    assert_eq!((stats.connections_total, stats.live_links), (1, 1));
    assert_eq!((stats.held_total, stats.swallowed_bytes), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_both_ways_at_once_arrives_whole() {
    const LEN: usize = 8 * 1024 * 1024;
    let bench = Bench::start().await;
    let (client, server) = bench.link().await;
    let pattern: Arc<[u8]> = (0..LEN).map(|i| (i % 253).to_le_bytes()[0]).collect();
    let mut ends = JoinSet::new();
    for stream in [client, server] {
        let pattern = Arc::clone(&pattern);
        ends.spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            let write = async {
                writer.write_all(&pattern).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            let (_, read) = tokio::join!(write, reader.read_to_end(&mut received));
            assert_eq!(read.unwrap(), LEN);
            assert!(received == *pattern);
        });
    }
    while let Some(ended) = within(ends.join_next()).await {
        ended.unwrap();
    }
    let both = u64::try_from(LEN).unwrap();
    bench
        .until("the link is over", |stats| stats.live_links == 0)
        .await;
    assert_eq!(
        (bench.stats().bytes_up, bench.stats().bytes_down),
        (both, both)
    );
}

#[tokio::test]
async fn a_client_that_finished_sending_still_receives() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    client.shutdown().await.unwrap();
    assert_eq!(end_of(&mut server).await, End::Eof);
    send(&mut server, b"late reply").await;
    assert_eq!(receive(&mut client, 10).await, b"late reply");
    assert_eq!(bench.stats().live_links, 1);
    drop(server);
    assert_eq!(end_of(&mut client).await, End::Eof);
    bench
        .until("the link is over", |stats| stats.live_links == 0)
        .await;
}

#[tokio::test]
async fn a_client_that_breaks_ends_the_link() {
    let bench = Bench::start().await;
    let (client, mut server) = bench.link().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(end_of(&mut server).await, End::Eof);
    bench
        .until("the link is over", |stats| stats.live_links == 0)
        .await;
}

#[tokio::test]
async fn a_slow_reader_slows_the_sender_down() {
    let bench = Bench::start().await;
    let (client, mut server) = bench.link().await;
    // The kernel's buffers take some megabytes at most; the proxy must not take the rest.
    let bytes = vec![7; 64 * 1024];
    let mut sent = 0;
    // A quarter of a second without room counts as stalled; were it too early, less would be sent.
    while timeout(Duration::from_millis(250), client.writable())
        .await
        .is_ok()
    {
        assert!(
            sent < 256 * 1024 * 1024,
            "the proxy takes whatever it is given"
        );
        sent += client.try_write(&bytes).unwrap_or(0);
    }
    drop(client);
    let mut received = Vec::new();
    within(server.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received.len(), sent);
}

#[tokio::test]
async fn an_unreachable_upstream_lets_the_client_connect_and_then_ends() {
    let proxies = Proxies::new(1);
    let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = bound.local_addr().unwrap().to_string();
    drop(bound);
    let view = proxies.create(ProxySpec::local(PG, nobody)).await.unwrap();
    let mut client = TcpStream::connect(&view.listen).await.unwrap();
    client.write_all(b"unread").await.unwrap();
    assert_eq!(end_of(&mut client).await, End::Eof);
    until("it is counted", || {
        let stats = proxies.stats(PG).unwrap();
        (stats.upstream_unreachable_total == 1 && stats.live_links == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_disabled_proxy_ends_its_links_refuses_new_ones_and_comes_back_on_its_port() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    ping_pong((&mut client, &mut server)).await;
    let view = bench.proxies.disable(PG).await.unwrap();
    assert!(!view.enabled);
    assert_eq!(end_of(&mut client).await, End::Eof);
    assert_eq!(end_of(&mut server).await, End::Eof);
    assert_eq!(bench.stats().live_links, 0);
    assert_eq!(bench.stats().links_stopped_total, 1);
    assert_refused(&bench.listen).await;

    let view = bench.proxies.enable(PG).await.unwrap();
    assert_eq!((view.enabled, &view.listen), (true, &bench.listen));
    let (mut client, mut server) = bench.link().await;
    ping_pong((&mut client, &mut server)).await;
    assert_eq!(
        bench.stats().connections_total,
        2,
        "counters outlive the pause"
    );
}

#[tokio::test]
async fn every_link_has_ended_when_disabling_returns() {
    let bench = Bench::start().await;
    let mut links = Vec::new();
    for _ in 0..20 {
        links.push(bench.link().await);
    }
    bench.proxies.disable(PG).await.unwrap();
    let stats = bench.stats();
    assert_eq!((stats.live_links, stats.links_stopped_total), (0, 20));
}

#[tokio::test]
async fn a_link_that_still_connects_can_be_reset_and_stopped() {
    // A listener whose queue is full and that never accepts: the kernel ignores further attempts.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let upstream = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(connected)) =
        timeout(Duration::from_millis(250), TcpStream::connect(upstream)).await
    {
        queued.push(connected);
    }
    let proxies = Proxies::new(1);
    let spec = ProxySpec::local(PG, upstream.to_string());
    let listen = proxies.create(spec).await.unwrap().listen;
    let live = |links| {
        let proxies = &proxies;
        until("links", move || {
            (proxies.stats(PG).unwrap().live_links == links).then_some(())
        })
    };
    let mut client = TcpStream::connect(&listen).await.unwrap();
    live(1).await;
    assert_eq!(proxies.reset_links(PG).unwrap(), 1);
    assert_eq!(end_of(&mut client).await, End::Reset);
    let mut client = TcpStream::connect(&listen).await.unwrap();
    live(1).await;
    within(proxies.disable(PG)).await.unwrap();
    assert_eq!(end_of(&mut client).await, End::Eof);
    let stats = proxies.stats(PG).unwrap();
    assert_eq!((stats.links_reset_total, stats.links_stopped_total), (1, 1));
}

#[tokio::test]
async fn unread_bytes_do_not_turn_the_end_of_a_disabled_proxy_into_a_reset() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    let stall = poolproof_faults::Toxic::Bandwidth { rate_kb_s: 0 };
    bench.add(stall, poolproof_faults::Stream::Upstream).await;
    // The first bytes are held, so the proxy reads no further: these stay in its socket.
    send(&mut client, b"held").await;
    bench.until("held", |stats| stats.held_now == 4).await;
    send(&mut client, &[7; 10_000]).await;
    bench.proxies.disable(PG).await.unwrap();
    assert_eq!(end_of(&mut client).await, End::Eof);
    assert_eq!(end_of(&mut server).await, End::Eof);
    assert_eq!(bench.stats().held_now, 0);
}

#[tokio::test]
async fn links_survive_an_update_that_changes_nothing_and_end_with_one_that_does() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    let upstream = bench.server.local_addr().unwrap().to_string();
    let same = ProxyPatch {
        listen: Some(bench.listen.clone()),
        upstream: Some(upstream),
        enabled: Some(true),
    };
    bench.proxies.update(PG, same).await.unwrap();
    ping_pong((&mut client, &mut server)).await;

    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let moved = ProxyPatch {
        upstream: Some(other.local_addr().unwrap().to_string()),
        ..ProxyPatch::default()
    };
    bench.proxies.update(PG, moved).await.unwrap();
    assert_eq!(end_of(&mut client).await, End::Eof);
    let mut client = TcpStream::connect(&bench.listen).await.unwrap();
    let (mut server, _) = within(other.accept()).await.unwrap();
    ping_pong((&mut client, &mut server)).await;
}

#[tokio::test]
async fn reset_links_resets_both_sides_of_every_link_and_of_no_later_one() {
    let bench = Bench::start().await;
    let mut links = Vec::new();
    for _ in 0..5 {
        let (mut client, mut server) = bench.link().await;
        ping_pong((&mut client, &mut server)).await;
        links.push((client, server));
    }
    assert_eq!(bench.proxies.reset_links(PG).unwrap(), 5);
    for (client, server) in &mut links {
        assert_eq!(end_of(client).await, End::Reset);
        assert_eq!(end_of(server).await, End::Reset);
    }
    bench
        .until("all counted", |s| {
            s.links_reset_total == 5 && s.live_links == 0
        })
        .await;
    let (mut client, mut server) = bench.link().await;
    ping_pong((&mut client, &mut server)).await;
    assert_eq!(bench.stats().links_reset_total, 5);
}

#[tokio::test]
async fn reset_links_reaches_a_link_whose_bytes_are_held_back() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    let stall = poolproof_faults::Toxic::Bandwidth { rate_kb_s: 0 };
    bench.add(stall, poolproof_faults::Stream::Upstream).await;
    send(&mut client, b"held").await;
    bench.until("held", |stats| stats.held_now == 4).await;
    assert_eq!(bench.proxies.reset_links(PG).unwrap(), 1);
    assert_eq!(end_of(&mut client).await, End::Reset);
    assert_eq!(end_of(&mut server).await, End::Reset);
    assert_eq!(bench.stats().held_now, 0);
}

async fn assert_refused(address: &str) {
    let error = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// Tasks of this test's own runtime.
fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

#[tokio::test]
async fn shutdown_leaves_no_task_and_no_socket() {
    let before = tasks();
    let bench = Bench::start().await;
    let mut links = Vec::new();
    for _ in 0..20 {
        links.push(bench.link().await);
    }
    // One link that has no upstream yet, because nobody accepts it: the backlog holds it.
    let mut unaccepted = TcpStream::connect(&bench.listen).await.unwrap();
    bench
        .until("all links are live", |stats| stats.live_links == 21)
        .await;
    assert!(tasks() >= before + 21);

    within(bench.proxies.shutdown()).await;
    until("no task is left", || (tasks() == before).then_some(())).await;
    for (client, server) in &mut links {
        assert_eq!(end_of(client).await, End::Eof);
        assert_eq!(end_of(server).await, End::Eof);
    }
    assert_eq!(end_of(&mut unaccepted).await, End::Eof);
    assert_refused(&bench.listen).await;

    let name = bench.proxies.get(PG).await.unwrap_err().to_string();
    assert_eq!(name, "use proxies that were shut down");
    within(bench.proxies.shutdown()).await;
}

#[tokio::test]
async fn dropping_the_last_handle_closes_everything() {
    let before = tasks();
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    let Bench {
        proxies,
        listen,
        server: _listener,
    } = bench;
    let clone = proxies.clone();
    drop(proxies);
    ping_pong((&mut client, &mut server)).await;
    drop(clone);
    assert_eq!(end_of(&mut client).await, End::Eof);
    assert_eq!(end_of(&mut server).await, End::Eof);
    until("no task is left", || (tasks() == before).then_some(())).await;
    assert_refused(&listen).await;
}
