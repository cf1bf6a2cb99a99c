//! The chain with made-up times. [`Rig`] plays the link: it pushes, asks, and lets time pass from
//! one wake-up to the next, so that a wrong wake-up shows as bytes that come late or never.

use std::time::Duration;

use super::*;
use crate::tally::ProxyStats;

const MS: Duration = Duration::from_millis(1);

struct Rig {
    chain: Chain,
    tally: Arc<Tally>,
    start: Instant,
    now: Instant,
    toxics: Vec<ActiveToxic>,
    out: Vec<(u128, Vec<u8>)>,
}

impl Rig {
    fn new() -> Self {
        Self::on_link(0)
    }

    fn on_link(ordinal: u64) -> Self {
        let tally = Arc::new(Tally::default());
        let key = LaneKey::new(1, "pg", ordinal, Stream::Upstream);
        let start = Instant::now();
        Self {
            chain: Chain::new(key, Stream::Upstream, Arc::clone(&tally)),
            tally,
            start,
            now: start,
            toxics: Vec::new(),
            out: Vec::new(),
        }
    }

    fn with(toxics: &[Toxic]) -> Self {
        let mut rig = Self::new();
        for toxic in toxics {
            rig.add(*toxic);
        }
        rig
    }

    fn add(&mut self, toxic: Toxic) {
        let id = u64::try_from(self.toxics.len()).unwrap();
        self.toxics.push(ActiveToxic {
            id,
            view: ToxicView {
                name: format!("toxic {id}"),
                toxic,
                stream: Stream::Upstream,
                toxicity: 1.0,
            },
        });
        assert_eq!(self.reconcile(), None);
    }

    fn set(&mut self, index: usize, toxic: Toxic) {
        self.toxics[index].view.toxic = toxic;
        assert_eq!(self.reconcile(), None);
    }

    fn remove(&mut self, index: usize) -> Option<Cut> {
        self.toxics.remove(index);
        self.reconcile().or_else(|| self.settle())
    }

    fn reconcile(&mut self) -> Option<Cut> {
        self.chain.reconcile(&self.toxics, self.now)
    }

    fn send(&mut self, bytes: &[u8]) {
        assert!(self.chain.has_room(), "no room at {:?}", self.at());
        let item = Item::Data(Chunk {
            data: Bytes::copy_from_slice(bytes),
            at: self.now,
        });
        self.chain.push(item, self.now);
        assert_eq!(self.settle(), None);
    }

    fn end(&mut self) {
        self.chain.push(Item::End(SourceEnd::Finished), self.now);
        assert_eq!(self.settle(), None);
    }

    /// Writes everything that is due now.
    fn settle(&mut self) -> Option<Cut> {
        loop {
            if let Some(cut) = self.chain.advance(self.now) {
                return Some(cut);
            }
            let out = self.chain.out()?;
            let (at, bytes) = (self.at(), out.to_vec());
            self.chain.consume(bytes.len());
            self.out.push((at, bytes));
        }
    }

    /// Lets time pass, waking only when the chain asked for it.
    fn pass(&mut self, ms: u32) -> Option<Cut> {
        let until = self.now + MS * ms;
        while let Some(wake) = self.chain.wake_at(self.now).filter(|wake| *wake <= until) {
            self.now = wake;
            if let Some(cut) = self.settle() {
                return Some(cut);
            }
        }
        self.now = until;
        None
    }

    fn at(&self) -> u128 {
        (self.now - self.start).as_millis()
    }

    /// What came out so far: when, in milliseconds from the start, and how many bytes.
    fn arrivals(&self) -> Vec<(u128, usize)> {
        self.out
            .iter()
            .map(|(at, data)| (*at, data.len()))
            .collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.out.iter().flat_map(|(_, data)| data.clone()).collect()
    }

    fn stats(&self) -> ProxyStats {
        self.tally.stats()
    }
}

fn latency(latency_ms: u32) -> Toxic {
    Toxic::Latency {
        latency_ms,
        jitter_ms: 0,
    }
}

fn bandwidth(rate_kb_s: u32) -> Toxic {
    Toxic::Bandwidth { rate_kb_s }
}

#[test]
fn without_toxics_a_chunk_is_out_at_once_and_the_next_waits_for_it() {
    let mut rig = Rig::new();
    rig.chain.push(
        Item::Data(Chunk {
            data: Bytes::from_static(b"abc"),
            at: rig.now,
        }),
        rig.now,
    );
    assert!(!rig.chain.has_room());
    rig.chain.consume(1);
    assert_eq!(rig.chain.out().unwrap().as_ref(), b"bc");
    rig.chain.consume(2);
    assert!(rig.chain.has_room());
    assert_eq!(rig.chain.ended(), None);
    rig.end();
    assert_eq!(rig.chain.ended(), Some(SourceEnd::Finished));
}

#[test]
fn latency_holds_chunks_side_by_side() {
    // Five chunks, 50 ms apart, 300 ms each: the last arrives at 500 ms, not at 1500 ms.
    let mut rig = Rig::with(&[latency(300)]);
    for _ in 0..5 {
        rig.send(b"x");
        assert_eq!(rig.pass(50), None);
    }
    rig.pass(1000);
    let expected = [(300, 1), (350, 1), (400, 1), (450, 1), (500, 1)];
    assert_eq!(rig.arrivals(), expected);
    assert_eq!(rig.stats().held_total, 5);
    assert_eq!(rig.stats().held_now, 0);
}

#[test]
fn latencies_add_up() {
    let mut rig = Rig::with(&[latency(100), latency(30), latency(5)]);
    rig.send(b"x");
    rig.pass(10);
    rig.send(b"y");
    rig.pass(1000);
    assert_eq!(rig.arrivals(), [(135, 1), (145, 1)]);
}

#[test]
fn jitter_stays_in_its_range_is_drawn_anew_and_never_reorders() {
    let toxic = Toxic::Latency {
        latency_ms: 40,
        jitter_ms: 30,
    };
    let delays = || {
        let mut delays = Vec::new();
        let mut rig = Rig::with(&[toxic]);
        for _ in 0..200 {
            let sent = rig.at();
            rig.send(b"x");
            rig.pass(100);
            delays.push(rig.arrivals().last().unwrap().0 - sent);
        }
        delays
    };
    let first = delays();
    assert!(
        first.iter().all(|delay| (10..=70).contains(delay)),
        "{first:?}"
    );
    assert!(first.iter().any(|delay| *delay < 20), "{first:?}");
    assert!(first.iter().any(|delay| *delay > 60), "{first:?}");
    assert_eq!(first, delays(), "the seed decides");

    let mut rig = Rig::with(&[toxic]);
    for byte in 0..200 {
        rig.send(&[byte]);
        rig.pass(1);
    }
    rig.pass(1000);
    assert_eq!(rig.bytes(), (0..200).collect::<Vec<u8>>());
}

#[test]
fn jitter_larger_than_the_latency_delays_by_nothing_at_least() {
    let mut rig = Rig::with(&[Toxic::Latency {
        latency_ms: 1,
        jitter_ms: 1000,
    }]);
    for _ in 0..20 {
        rig.send(b"x");
        rig.pass(2000);
    }
    assert_eq!(rig.out.len(), 20);
}

#[test]
fn latency_does_not_delay_a_bare_end_but_keeps_it_behind_the_data() {
    let mut rig = Rig::with(&[latency(300)]);
    rig.end();
    assert_eq!(rig.chain.ended(), Some(SourceEnd::Finished));

    let mut rig = Rig::with(&[latency(300)]);
    rig.send(b"x");
    rig.end();
    rig.pass(299);
    assert_eq!(rig.chain.ended(), None);
    rig.pass(1);
    assert_eq!(rig.chain.ended(), Some(SourceEnd::Finished));
    assert_eq!(rig.arrivals(), [(300, 1)]);
}

#[test]
fn a_changed_latency_applies_to_what_already_waits() {
    let mut rig = Rig::with(&[latency(1000)]);
    rig.send(b"x");
    rig.pass(100);
    rig.set(0, latency(200));
    rig.pass(1000);
    assert_eq!(rig.arrivals(), [(200, 1)]);
}

#[test]
fn a_removed_latency_lets_everything_go_at_once_and_in_order() {
    let mut rig = Rig::with(&[latency(1000)]);
    for byte in 0..100 {
        rig.send(&[byte]);
    }
    assert_eq!(rig.stats().held_now, 100);
    rig.pass(10);
    assert_eq!(rig.remove(0), None);
    assert_eq!(rig.bytes(), (0..100).collect::<Vec<u8>>());
    assert!(rig.arrivals().iter().all(|(at, _)| *at == 10));
    assert_eq!(rig.stats().held_now, 0);
    assert_eq!(rig.stats().held_total, 100);
    assert!(rig.chain.stages.is_empty(), "the removed stage is gone");
}

#[test]
fn latency_takes_1024_chunks_and_then_none() {
    let mut rig = Rig::with(&[latency(1000)]);
    for _ in 0..1024 {
        rig.send(b"x");
    }
    assert!(!rig.chain.has_room());
    rig.pass(1000);
    assert!(rig.chain.has_room());
    assert_eq!(rig.out.len(), 1024);
}

#[test]
fn bandwidth_counts_1000_bytes_to_the_kilobyte_in_pieces_of_100_ms() {
    let mut rig = Rig::with(&[bandwidth(100)]);
    rig.send(&[7; 32_000]);
    assert!(!rig.chain.has_room(), "one chunk at a time");
    rig.pass(5000);
    let expected = [(100, 10_000), (200, 10_000), (300, 10_000), (320, 2_000)];
    assert_eq!(rig.arrivals(), expected);
}

#[test]
fn bandwidth_does_not_save_up_while_idle() {
    let mut rig = Rig::with(&[bandwidth(1)]);
    rig.pass(10_000);
    rig.send(&[7; 50]);
    rig.pass(1000);
    rig.send(&[7; 50]);
    rig.pass(1000);
    assert_eq!(rig.arrivals(), [(10_050, 50), (11_050, 50)]);
}

#[test]
fn bandwidth_makes_up_for_a_late_wake_up() {
    // 100 KB/s; every wake-up comes 30 ms late, but the third finds the last two pieces due.
    let mut rig = Rig::with(&[bandwidth(100)]);
    rig.send(&[7; 32_000]);
    while let Some(wake) = rig.chain.wake_at(rig.now) {
        rig.now = wake + MS * 30;
        assert_eq!(rig.settle(), None);
    }
    assert_eq!(rig.at(), 330);
    assert_eq!(rig.bytes().len(), 32_000);
}

#[test]
fn bandwidth_zero_stalls_without_loss_until_it_is_removed() {
    let mut rig = Rig::with(&[bandwidth(0)]);
    rig.send(b"held back");
    assert_eq!(rig.pass(1_000_000), None);
    assert_eq!(rig.chain.wake_at(rig.now), None);
    assert_eq!(rig.arrivals(), []);
    assert_eq!(rig.stats().held_now, 9);
    assert_eq!(rig.remove(0), None);
    assert_eq!(rig.bytes(), b"held back");
    assert_eq!(rig.stats().held_now, 0);
}

#[test]
fn a_stall_that_gets_a_rate_starts_from_then() {
    let mut rig = Rig::with(&[bandwidth(0)]);
    rig.send(&[7; 20_000]);
    rig.pass(10_000);
    rig.set(0, bandwidth(100));
    rig.pass(10_000);
    assert_eq!(rig.arrivals(), [(10_100, 10_000), (10_200, 10_000)]);
}

#[test]
fn what_latency_lets_go_waits_for_the_bandwidth_behind_it() {
    let mut rig = Rig::with(&[latency(10), bandwidth(1)]);
    for _ in 0..3 {
        rig.send(&[7; 20]);
    }
    rig.pass(1000);
    assert_eq!(rig.arrivals(), [(30, 20), (50, 20), (70, 20)]);
}

#[test]
fn a_removed_toxic_in_front_of_a_slow_one_loses_nothing() {
    let mut rig = Rig::with(&[latency(1000), bandwidth(1)]);
    for byte in 0..50 {
        rig.send(&[byte; 10]);
    }
    assert_eq!(rig.remove(0), None);
    assert!(!rig.chain.has_room(), "new bytes wait behind the old");
    rig.pass(1000);
    let expected: Vec<u8> = (0..50).flat_map(|byte| [byte; 10]).collect();
    assert_eq!(rig.bytes(), expected);
    assert_eq!(rig.arrivals().last().unwrap().0, 500);
}

#[test]
fn a_toxic_added_later_gets_what_those_before_it_let_go() {
    let mut rig = Rig::with(&[latency(100)]);
    rig.send(b"x");
    rig.add(latency(50));
    rig.pass(1000);
    assert_eq!(rig.arrivals(), [(150, 1)]);
}

#[test]
fn timeout_swallows_and_closes_after_silence_only() {
    let timeout = |timeout_ms| Toxic::Timeout { timeout_ms };
    let mut rig = Rig::with(&[timeout(500)]);
    for _ in 0..10 {
        rig.send(b"abc");
        assert_eq!(rig.pass(300), None);
    }
    assert_eq!(rig.pass(199), None);
    assert_eq!(rig.pass(1), Some(Cut::Close));
    assert_eq!(rig.stats().swallowed_bytes, 30);
    assert_eq!(rig.arrivals(), []);

    let mut rig = Rig::with(&[timeout(0)]);
    rig.send(b"abc");
    rig.end();
    assert_eq!(rig.pass(1_000_000), None);
    assert_eq!(rig.chain.ended(), None, "the end is swallowed too");
    assert_eq!(rig.remove(0), Some(Cut::Close));
}

#[test]
fn reset_peer_fires_its_time_after_it_reached_the_link() {
    let mut rig = Rig::new();
    rig.pass(700);
    rig.add(Toxic::ResetPeer { timeout_ms: 200 });
    assert_eq!(rig.pass(199), None);
    rig.send(b"lost");
    assert_eq!(rig.pass(1), Some(Cut::Reset));
    assert_eq!(rig.arrivals(), []);
    assert_eq!(rig.stats().swallowed_bytes, 4);
}

#[test]
fn reset_peer_removed_in_time_spares_a_link_that_lost_nothing() {
    let reset_peer = Toxic::ResetPeer { timeout_ms: 200 };
    let mut rig = Rig::with(&[reset_peer]);
    assert_eq!(rig.remove(0), None);
    rig.send(b"alive");
    assert_eq!(rig.bytes(), b"alive");

    let mut rig = Rig::with(&[reset_peer]);
    rig.send(b"lost");
    assert_eq!(rig.remove(0), Some(Cut::Reset));
}

#[test]
fn a_toxic_of_the_other_direction_does_nothing_here() {
    let mut rig = Rig::with(&[]);
    let mut toxic = ActiveToxic {
        id: 9,
        view: ToxicView {
            name: "other".to_owned(),
            toxic: latency(1000),
            stream: Stream::Downstream,
            toxicity: 1.0,
        },
    };
    assert_eq!(
        rig.chain.reconcile(std::slice::from_ref(&toxic), rig.now),
        None
    );
    assert!(rig.chain.stages.is_empty());
    toxic.view.stream = Stream::Upstream;
    assert_eq!(rig.chain.reconcile(&[toxic], rig.now), None);
    assert_eq!(rig.chain.stages.len(), 1);
}

#[test]
fn toxicity_picks_its_share_of_links_and_more_of_it_only_adds_links() {
    let hit_by = |toxicity: f64| {
        let toxic = ActiveToxic {
            id: 1,
            view: ToxicView {
                name: "some".to_owned(),
                toxic: latency(1),
                stream: Stream::Upstream,
                toxicity,
            },
        };
        let is_hit =
            move |ordinal: &u64| LaneKey::new(3, "pg", *ordinal, Stream::Upstream).hits(&toxic);
        (0..1000).filter(is_hit).collect::<Vec<u64>>()
    };
    assert_eq!(hit_by(0.0).len(), 0);
    assert_eq!(hit_by(1.0).len(), 1000);
    let (some, more) = (hit_by(0.3), hit_by(0.6));
    assert!((240..360).contains(&some.len()), "{}", some.len());
    assert!((540..660).contains(&more.len()), "{}", more.len());
    assert!(some.iter().all(|ordinal| more.contains(ordinal)));
}

#[test]
fn a_toxicity_lowered_past_a_link_takes_the_toxic_off_it() {
    let mut rig = Rig::with(&[latency(1000)]);
    rig.send(b"x");
    rig.toxics[0].view.toxicity = 0.0;
    assert_eq!(rig.reconcile(), None);
    assert_eq!(rig.settle(), None);
    assert_eq!(rig.arrivals(), [(0, 1)]);
    rig.toxics[0].view.toxicity = 1.0;
    assert_eq!(rig.reconcile(), None);
    rig.send(b"y");
    rig.pass(1000);
    assert_eq!(rig.arrivals(), [(0, 1), (1000, 1)]);
}

#[test]
fn the_draw_that_picks_a_link_is_not_its_first_jitter() {
    // A link picked by a draw below 0.2 would else begin with a delay far below the middle.
    let mut late = 0;
    for ordinal in 0..200 {
        let mut rig = Rig::on_link(ordinal);
        rig.add(Toxic::Latency {
            latency_ms: 100,
            jitter_ms: 100,
        });
        rig.toxics[0].view.toxicity = 0.2;
        assert_eq!(rig.reconcile(), None);
        rig.send(b"x");
        rig.pass(1000);
        late += u32::from(rig.arrivals()[0].0 > 100);
    }
    assert!((10..40).contains(&late), "{late}");
}

#[test]
fn whatever_lossless_toxics_come_and_go_every_byte_arrives_once_and_in_order() {
    // 300 seeded histories of sending, waiting, adding, changing and removing.
    for seed in 0..300 {
        let mut draws = LaneKey::new(seed, "history", 0, Stream::Upstream).draws("steps");
        let mut below = |limit: u32| -> u32 {
            let drawn = draws.next_unit() * f64::from(limit);
            (0..limit)
                .rev()
                .find(|n| f64::from(*n) <= drawn)
                .unwrap_or(0)
        };
        let mut rig = Rig::new();
        let mut next_id = 0;
        let mut sent = Vec::new();
        for _ in 0..60 {
            match below(6) {
                0 | 1 if rig.chain.has_room() => {
                    let len = usize::try_from(1 + below(3000)).unwrap();
                    let bytes: Vec<u8> = (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect();
                    rig.send(&bytes);
                    sent.extend(bytes);
                }
                2 => {
                    next_id += 1;
                    let toxic = match below(3) {
                        0 => Toxic::Noop,
                        1 => bandwidth(below(20)),
                        _ => Toxic::Latency {
                            latency_ms: below(50),
                            jitter_ms: below(50),
                        },
                    };
                    rig.add(toxic);
                    rig.toxics.last_mut().unwrap().id = 1000 + next_id;
                    assert_eq!(rig.reconcile(), None);
                }
                3 if !rig.toxics.is_empty() => {
                    let count = u32::try_from(rig.toxics.len()).unwrap();
                    let index = usize::try_from(below(count)).unwrap();
                    assert_eq!(rig.remove(index), None);
                }
                _ => assert_eq!(rig.pass(below(40)), None),
            }
        }
        rig.toxics.clear();
        assert_eq!(rig.reconcile(), None, "seed {seed}");
        assert_eq!(rig.settle(), None, "seed {seed}");
        assert!(rig.bytes() == sent, "seed {seed}");
        assert_eq!(rig.stats().held_now, 0, "seed {seed}");
    }
}
