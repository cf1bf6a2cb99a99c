//! Each toxic on real links.

use std::time::Duration;

use poolproof_faults::{Stream, Toxic, ToxicError, ToxicPatch, ToxicSpec};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::support::{
    Bench, End, FOREVER_MS, PG, assert_silent, end_of, ping_pong, receive, send, within,
};

const LONG_LATENCY: Toxic = Toxic::Latency {
    latency_ms: FOREVER_MS,
    jitter_ms: 0,
};
const STALL: Toxic = Toxic::Bandwidth { rate_kb_s: 0 };
const BLACK_HOLE: Toxic = Toxic::Timeout { timeout_ms: 0 };

#[tokio::test]
async fn latency_holds_every_chunk_and_lets_all_go_when_removed() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    bench.add(LONG_LATENCY, Stream::Upstream).await;
    // Each chunk is seen as held before the next is sent: they wait side by side.
    for round in 1..=5_u8 {
        send(&mut client, &[round; 100]).await;
        let all = u64::from(round) * 100;
        bench.until("held", |stats| stats.held_now == all).await;
    }
    assert_silent(&server);
    send(&mut server, b"the other way is free").await;
    assert_eq!(receive(&mut client, 21).await, b"the other way is free");
    bench.remove().await;
    let expected: Vec<u8> = (1..=5).flat_map(|round| [round; 100]).collect();
    assert_eq!(receive(&mut server, 500).await, expected);
    assert_eq!((bench.stats().held_now, bench.stats().held_total), (0, 500));
    ping_pong((&mut client, &mut server)).await;
}

#[tokio::test]
async fn latency_delays_each_way_by_at_least_itself() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    for stream in [Stream::Upstream, Stream::Downstream] {
        let toxic = Toxic::Latency {
            latency_ms: 60,
            jitter_ms: 10,
        };
        bench
            .proxies
            .add_toxic(PG, ToxicSpec::new(toxic, stream))
            .await
            .unwrap();
    }
    let started = Instant::now();
    ping_pong((&mut client, &mut server)).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert_eq!(bench.stats().held_total, 8);
}

#[tokio::test]
async fn latency_delays_neither_connecting_nor_a_bare_end() {
    let bench = Bench::start().await;
    bench.add(LONG_LATENCY, Stream::Upstream).await;
    let (mut client, mut server) = bench.link().await;
    client.shutdown().await.unwrap();
    assert_eq!(end_of(&mut server).await, End::Eof);
}

#[tokio::test]
async fn an_updated_latency_applies_to_links_that_are_established() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    bench.add(LONG_LATENCY, Stream::Upstream).await;
    send(&mut client, b"waits").await;
    bench.until("held", |stats| stats.held_now == 5).await;
    let none = Toxic::Latency {
        latency_ms: 0,
        jitter_ms: 0,
    };
    let view = bench
        .proxies
        .update_toxic(PG, "t", none.into())
        .await
        .unwrap();
    assert_eq!(view.toxic, none);
    assert_eq!(receive(&mut server, 5).await, b"waits");
}

#[tokio::test]
async fn bandwidth_limits_the_rate() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    bench
        .add(Toxic::Bandwidth { rate_kb_s: 200 }, Stream::Downstream)
        .await;
    let sent: Vec<u8> = (0..60_000_u32)
        .map(|i| (i % 251).to_le_bytes()[0])
        .collect();
    let started = Instant::now();
    let (received, ()) = tokio::join!(receive(&mut client, sent.len()), send(&mut server, &sent));
    let took = started.elapsed();
    assert!(received == sent);
    assert!(took >= Duration::from_millis(300), "{took:?}");
}

#[tokio::test]
async fn bandwidth_zero_stalls_and_loses_nothing() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    bench.add(STALL, Stream::Upstream).await;
    let sent: Vec<u8> = (0..500_000_u32)
        .map(|i| (i % 251).to_le_bytes()[0])
        .collect();
    send(&mut client, &sent[..100_000]).await;
    bench.until("held", |stats| stats.held_now > 0).await;
    assert_silent(&server);
    assert!(
        bench.stats().held_now <= 32 * 1024,
        "one chunk, the rest waits in the kernel"
    );
    bench.remove().await;
    let (received, ()) = tokio::join!(
        receive(&mut server, sent.len()),
        send(&mut client, &sent[100_000..])
    );
    assert!(received == sent);
    ping_pong((&mut client, &mut server)).await;
}

#[tokio::test]
async fn a_timeout_of_zero_is_a_black_hole_until_its_removal_closes_the_link() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    bench.add(BLACK_HOLE, Stream::Upstream).await;
    send(&mut client, b"swallowed").await;
    bench
        .until("swallowed", |stats| stats.swallowed_bytes == 9)
        .await;
    assert_silent(&server);
    send(&mut server, b"the other way is free").await;
    assert_eq!(receive(&mut client, 21).await, b"the other way is free");
    assert_eq!(bench.stats().live_links, 1);
    bench.remove().await;
    assert_eq!(end_of(&mut client).await, End::Eof);
    assert_eq!(end_of(&mut server).await, End::Eof);
    bench
        .until("closed", |stats| {
            stats.links_cut_total == 1 && stats.live_links == 0
        })
        .await;
}

#[tokio::test]
async fn a_black_hole_hides_from_the_server_that_the_client_went_away() {
    let bench = Bench::start().await;
    let (client, mut server) = bench.link().await;
    bench.add(BLACK_HOLE, Stream::Upstream).await;
    drop(client);
    send(&mut server, b"anybody there?").await;
    bench
        .until("delivered", |stats| stats.bytes_down == 14)
        .await;
    assert_silent(&server);
}

#[tokio::test]
async fn reset_of_all_proxies_closes_what_a_timeout_was_on() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    bench.add(BLACK_HOLE, Stream::Downstream).await;
    bench.proxies.reset().await.unwrap();
    assert_eq!(bench.proxies.toxics(PG).await.unwrap(), []);
    assert_eq!(end_of(&mut client).await, End::Eof);
    assert_eq!(end_of(&mut server).await, End::Eof);
    let (mut client, mut server) = bench.link().await;
    ping_pong((&mut client, &mut server)).await;
}

#[tokio::test]
async fn a_timeout_closes_the_link_after_silence() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    let started = Instant::now();
    bench
        .add(Toxic::Timeout { timeout_ms: 120 }, Stream::Upstream)
        .await;
    assert_eq!(end_of(&mut client).await, End::Eof);
    assert!(started.elapsed() >= Duration::from_millis(120));
    assert_eq!(end_of(&mut server).await, End::Eof);
    assert_eq!(bench.stats().links_cut_total, 1);
}

#[tokio::test]
async fn reset_peer_resets_both_sides_of_idle_established_links() {
    let bench = Bench::start().await;
    let mut links = Vec::new();
    for _ in 0..3 {
        let (mut client, mut server) = bench.link().await;
        ping_pong((&mut client, &mut server)).await;
        links.push((client, server));
    }
    bench
        .add(Toxic::ResetPeer { timeout_ms: 0 }, Stream::Downstream)
        .await;
    for (client, server) in &mut links {
        assert_eq!(end_of(client).await, End::Reset);
        assert_eq!(end_of(server).await, End::Reset);
    }
    bench
        .until("counted", |s| s.links_reset_total == 3 && s.live_links == 0)
        .await;
}

#[tokio::test]
async fn reset_peer_resets_a_new_link_when_it_opens() {
    let bench = Bench::start().await;
    bench
        .add(Toxic::ResetPeer { timeout_ms: 0 }, Stream::Upstream)
        .await;
    let (mut client, mut server) = bench.link().await;
    assert_eq!(end_of(&mut client).await, End::Reset);
    assert_eq!(end_of(&mut server).await, End::Reset);
    bench.remove().await;
    let (mut client, mut server) = bench.link().await;
    ping_pong((&mut client, &mut server)).await;
}

#[tokio::test]
async fn reset_peer_that_waits_can_be_removed_at_once_and_spares_idle_links() {
    let bench = Bench::start().await;
    let (mut idle, mut idle_server) = bench.link().await;
    let (mut busy, mut busy_server) = bench.link().await;
    bench
        .add(
            Toxic::ResetPeer {
                timeout_ms: FOREVER_MS,
            },
            Stream::Upstream,
        )
        .await;
    send(&mut busy, b"lost").await;
    bench
        .until("swallowed", |stats| stats.swallowed_bytes == 4)
        .await;
    within(bench.remove()).await;
    assert_eq!(end_of(&mut busy).await, End::Reset);
    assert_eq!(end_of(&mut busy_server).await, End::Reset);
    ping_pong((&mut idle, &mut idle_server)).await;
    assert_eq!(bench.stats().links_reset_total, 1);
}

#[tokio::test]
async fn reset_peer_fires_after_its_time_also_on_a_link_that_is_half_closed() {
    let bench = Bench::start().await;
    let (mut client, mut server) = bench.link().await;
    client.shutdown().await.unwrap();
    assert_eq!(end_of(&mut server).await, End::Eof);
    let started = Instant::now();
    bench
        .add(Toxic::ResetPeer { timeout_ms: 80 }, Stream::Upstream)
        .await;
    assert_eq!(end_of(&mut client).await, End::Reset);
    assert!(started.elapsed() >= Duration::from_millis(80));
    bench
        .until("counted", |stats| stats.links_reset_total == 1)
        .await;
    // The server had read the end already, so it learns of the reset when it writes.
    within(server.writable()).await.unwrap();
    let error = server.try_write(b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

/// Which of ten links a toxic of half toxicity is on, seen by what it swallows.
async fn links_hit(bench: &Bench) -> Vec<bool> {
    let spec = ToxicSpec::new(BLACK_HOLE, Stream::Upstream)
        .named("t")
        .on_share(0.5);
    bench.proxies.add_toxic(PG, spec).await.unwrap();
    let mut hit = Vec::new();
    for _ in 0..10 {
        hit.push(is_hit(bench).await);
    }
    hit
}

async fn is_hit(bench: &Bench) -> bool {
    let before = bench.stats();
    let (mut client, _server) = bench.link().await;
    send(&mut client, b"x").await;
    bench
        .until("swallowed or delivered", |now| {
            now.swallowed_bytes + now.bytes_up > before.swallowed_bytes + before.bytes_up
        })
        .await;
    bench.stats().swallowed_bytes > before.swallowed_bytes
}

#[tokio::test]
async fn the_seed_decides_which_links_a_toxic_is_on() {
    let first = links_hit(&Bench::with_seed(5).await).await;
    assert!(first.contains(&true), "{first:?}");
    assert!(first.contains(&false), "{first:?}");
    assert_eq!(first, links_hit(&Bench::with_seed(5).await).await);
    assert_ne!(first, links_hit(&Bench::with_seed(6).await).await);
}

#[tokio::test]
async fn toxicity_is_not_decided_anew_when_a_toxic_changes() {
    let bench = Bench::with_seed(5).await;
    let (mut client, mut server) = bench.link().await;
    let stall = ToxicSpec::new(STALL, Stream::Downstream)
        .named("t")
        .on_share(0.5);
    bench.proxies.add_toxic(PG, stall).await.unwrap();
    send(&mut client, b"up").await;
    assert_eq!(receive(&mut server, 2).await, b"up");
    let free = ToxicSpec::new(STALL, Stream::Upstream)
        .named("never")
        .on_share(0.0);
    bench.proxies.add_toxic(PG, free).await.unwrap();
    for _ in 0..50 {
        let patch = ToxicPatch::default();
        bench
            .proxies
            .update_toxic(PG, "never", patch.clone())
            .await
            .unwrap();
        bench.proxies.update_toxic(PG, "t", patch).await.unwrap();
        send(&mut client, b"up").await;
        assert_eq!(receive(&mut server, 2).await, b"up");
    }
    assert_eq!(bench.stats().held_total, 0);
}

#[tokio::test]
async fn toxics_have_unique_names_and_a_default_one() {
    let bench = Bench::start().await;
    let spec = ToxicSpec::new(Toxic::Noop, Stream::Downstream);
    let view = bench.proxies.add_toxic(PG, spec.clone()).await.unwrap();
    assert_eq!(view.name, "noop_downstream");
    let again = bench.proxies.add_toxic(PG, spec).await.unwrap_err();
    assert!(
        matches!(again, ToxicError::AlreadyExists { .. }),
        "{again:?}"
    );
    let nan = ToxicSpec::new(Toxic::Noop, Stream::Upstream).on_share(f64::NAN);
    let refused = bench.proxies.add_toxic(PG, nan).await.unwrap_err();
    assert!(
        matches!(refused, ToxicError::ToxicityNotFinite),
        "{refused:?}"
    );
    let (mut client, mut server) = bench.link().await;
    ping_pong((&mut client, &mut server)).await;
    bench
        .proxies
        .remove_toxic(PG, "noop_downstream")
        .await
        .unwrap();
    let gone = bench
        .proxies
        .remove_toxic(PG, "noop_downstream")
        .await
        .unwrap_err();
    assert!(matches!(gone, ToxicError::NotFound { .. }), "{gone:?}");
}

#[tokio::test]
async fn toxics_outlive_a_disabled_proxy() {
    let bench = Bench::start().await;
    bench.proxies.disable(PG).await.unwrap();
    bench.add(LONG_LATENCY, Stream::Upstream).await;
    bench.proxies.enable(PG).await.unwrap();
    let (mut client, server) = bench.link().await;
    send(&mut client, b"held").await;
    bench.until("held", |stats| stats.held_now == 4).await;
    assert_silent(&server);
}
