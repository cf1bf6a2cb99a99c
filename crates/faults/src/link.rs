//! One link: a client's connection, the connection to the upstream, and a chain each way.
//!
//! A link is one task. It looks at its orders before anything else, so a toxic that was added
//! before some bytes were sent is always in force for them.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::chain::{ActiveToxic, CHUNK_MAX, Chain, Chunk, Cut, Item, SourceEnd};
use crate::draw::LaneKey;
use crate::tally::{LiveLink, Tally, add, count};
use crate::toxic::Stream;

/// Room that a read buffer has at least, in bytes; small messages then share one allocation.
const READ_ROOM_MIN: usize = 8 * 1024;

/// Unread bytes that are taken in before a socket is closed, at most.
const DRAIN_MAX: usize = 1024 * 1024;

/// What a proxy's links have to obey. When its sender is gone, the proxy has stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Orders {
    pub(crate) toxics: Arc<[ActiveToxic]>,
    /// How often a reset of all links was ordered; a link obeys those after its own start.
    pub(crate) resets: u64,
}

/// What links need to know about their proxy.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) seed: u64,
    pub(crate) proxy: String,
    pub(crate) upstream: String,
    pub(crate) tally: Arc<Tally>,
}

/// A link that has a client and looks for its upstream.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: TcpStream,
    pub(crate) site: Arc<Site>,
    pub(crate) ordinal: u64,
    pub(crate) orders: watch::Receiver<Orders>,
    /// [`Orders::resets`] when the client was accepted.
    pub(crate) resets: u64,
    pub(crate) live: LiveLink,
}

impl Link {
    /// Carries the link to its end.
    pub(crate) async fn run(mut self) {
        let tally = Arc::clone(&self.site.tally);
        let (upstream, ending) = match self.connect().await {
            Ok(mut upstream) => {
                let ending = self.carry(&mut upstream).await;
                (Some(upstream), ending)
            }
            Err(ending) => (None, ending),
        };
        match ending {
            Ending::Unreachable => add(&tally.upstream_unreachable, 1),
            Ending::Stopped => add(&tally.links_stopped, 1),
            Ending::Cut(Cut::Close) => add(&tally.links_cut, 1),
            Ending::Cut(Cut::Reset) | Ending::Finished | Ending::Broken => {}
        }
        let sockets = [Some(self.client), upstream];
        if ending == Ending::Cut(Cut::Reset) {
            if reset(sockets) {
                add(&tally.links_reset, 1);
            }
        } else {
            close(sockets);
        }
        drop(self.live);
    }

    /// Connects to the upstream; the link's orders come first.
    async fn connect(&mut self) -> Result<TcpStream, Ending> {
        let site = Arc::clone(&self.site);
        let connecting = TcpStream::connect(&site.upstream);
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                biased;
                ending = self.next_order() => match ending {
                    Some(ending) => return Err(ending),
                    None => continue,
                },
                connected = &mut connecting => {
                    return match connected.and_then(without_delay) {
                        Ok(upstream) => Ok(upstream),
                        Err(error) => {
                            tracing::debug!(proxy = %site.proxy, %error, "upstream unreachable");
                            Err(Ending::Unreachable)
                        }
                    };
                }
            }
        }
    }

    async fn carry(&mut self, upstream: &mut TcpStream) -> Ending {
        let site = Arc::clone(&self.site);
        let (client, mut orders) = (&mut self.client, self.orders.clone());
        let lane = |stream| {
            let key = LaneKey::new(site.seed, &site.proxy, self.ordinal, stream);
            Chain::new(key, stream, Arc::clone(&site.tally))
        };
        let (client_reader, client_writer) = client.split();
        let (upstream_reader, upstream_writer) = upstream.split();
        let mut lanes = Lanes {
            up: Lane::new(client_reader, upstream_writer, lane(Stream::Upstream)),
            down: Lane::new(upstream_reader, client_writer, lane(Stream::Downstream)),
        };
        orders.mark_changed();
        loop {
            // Looked at again after every read: what was ordered before bytes were sent is in force
            // for them, however close together the two were.
            if !matches!(orders.has_changed(), Ok(false))
                && let Some(ending) = lanes.obey(&orders.borrow_and_update(), self.resets)
            {
                return ending;
            }
            let now = Instant::now();
            if let Some(ending) = lanes.advance(now).await {
                return ending;
            }
            let wake_at = lanes.wake_at(now);
            tokio::select! {
                biased;
                changed = orders.changed() => match changed {
                    Ok(()) => orders.mark_changed(),
                    Err(_) => return Ending::Stopped,
                },
                moved = lanes.step(&site.tally) => if moved.is_err() {
                    return Ending::Broken;
                },
                () = sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {}
            }
        }
    }

    /// Waits for a change of the orders; gives an ending if the link must not go on.
    async fn next_order(&mut self) -> Option<Ending> {
        if self.orders.changed().await.is_err() {
            return Some(Ending::Stopped);
        }
        let resets = self.orders.borrow_and_update().resets;
        (resets != self.resets).then_some(Ending::Cut(Cut::Reset))
    }
}

/// Why a link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Both sides finished and everything was delivered.
    Finished,
    /// One of the connections broke.
    Broken,
    /// The upstream could not be reached.
    Unreachable,
    /// The proxy stopped.
    Stopped,
    /// A toxic or an order wants it.
    Cut(Cut),
}

struct Lanes<'a> {
    up: Lane<'a>,
    down: Lane<'a>,
}

impl Lanes<'_> {
    async fn advance(&mut self, now: Instant) -> Option<Ending> {
        for lane in [&mut self.up, &mut self.down] {
            if let Some(ending) = lane.advance(now).await {
                return Some(ending);
            }
        }
        (self.up.is_over && self.down.is_over).then_some(Ending::Finished)
    }

    fn wake_at(&self, now: Instant) -> Option<Instant> {
        let wakes = [self.up.chain.wake_at(now), self.down.chain.wake_at(now)];
        wakes.into_iter().flatten().min()
    }

    /// Takes over the orders; gives an ending if the link must not go on.
    fn obey(&mut self, orders: &Orders, resets: u64) -> Option<Ending> {
        if orders.resets != resets {
            return Some(Ending::Cut(Cut::Reset));
        }
        let now = Instant::now();
        let up = self.up.chain.reconcile(&orders.toxics, now);
        let down = self.down.chain.reconcile(&orders.toxics, now);
        up.max(down).map(Ending::Cut)
    }

    /// Moves bytes one step, in whichever direction can; waits for ever when none can.
    async fn step(&mut self, tally: &Tally) -> io::Result<()> {
        tokio::select! {
            moved = self.up.step() => add(&tally.bytes_up, moved?),
            moved = self.down.step() => add(&tally.bytes_down, moved?),
        }
        Ok(())
    }
}

/// One direction: where it reads, the chain, and where it writes.
struct Lane<'a> {
    reader: ReadHalf<'a>,
    writer: WriteHalf<'a>,
    buffer: BytesMut,
    chain: Chain,
    /// What was read last, until the orders have been looked at.
    incoming: Option<Item>,
    source_is_open: bool,
    is_over: bool,
}

impl<'a> Lane<'a> {
    fn new(reader: ReadHalf<'a>, writer: WriteHalf<'a>, chain: Chain) -> Self {
        Self {
            reader,
            writer,
            buffer: BytesMut::new(),
            chain,
            incoming: None,
            source_is_open: true,
            is_over: false,
        }
    }

    async fn advance(&mut self, now: Instant) -> Option<Ending> {
        if let Some(item) = self.incoming.take() {
            self.chain.push(item, now);
        }
        if let Some(cut) = self.chain.advance(now) {
            return Some(Ending::Cut(cut));
        }
        match self.chain.ended() {
            Some(SourceEnd::Finished) if !self.is_over => {
                self.is_over = true;
                // Passes the end on; the other direction goes on until it ends by itself.
                match self.writer.shutdown().await {
                    Ok(()) => None,
                    Err(_) => Some(Ending::Broken),
                }
            }
            Some(SourceEnd::Broken) => Some(Ending::Broken),
            Some(SourceEnd::Finished) | None => None,
        }
    }

    /// Writes what is due or reads what has come; returns how many bytes were written.
    ///
    /// # Cancel safety
    /// Safe: reads and writes happen in the same poll that completes the step.
    async fn step(&mut self) -> io::Result<u64> {
        let out = self.chain.out();
        let can_read = self.source_is_open && self.chain.has_room();
        if can_read && self.buffer.capacity() - self.buffer.len() < READ_ROOM_MIN {
            self.buffer.reserve(CHUNK_MAX);
        }
        let mut room = (&mut self.buffer).limit(CHUNK_MAX);
        tokio::select! {
            written = self.writer.write(out.map_or(&[], |out| out)), if out.is_some() => {
                let len = written?;
                if len == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.chain.consume(len);
                Ok(count(len))
            }
            read = self.reader.read_buf(&mut room), if can_read => {
                self.take_in(read);
                Ok(0)
            }
            else => std::future::pending().await,
        }
    }

    fn take_in(&mut self, read: io::Result<usize>) {
        let item = match read {
            Ok(0) => Item::End(SourceEnd::Finished),
            Err(_) => Item::End(SourceEnd::Broken),
            Ok(_) => Item::Data(Chunk {
                data: self.buffer.split().freeze(),
                at: Instant::now(),
            }),
        };
        self.source_is_open = matches!(item, Item::Data(_));
        self.incoming = Some(item);
    }
}

/// Sends small messages at once: waiting for more would be a latency that nobody asked for.
pub(crate) fn without_delay(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Closes both sides with a FIN.
fn close(sockets: [Option<TcpStream>; 2]) {
    for socket in sockets.into_iter().flatten() {
        // Linux answers a close with unread bytes by RST instead of FIN. Past the runtime, since
        // its idea of what can be read may be older than the bytes.
        match socket.into_std() {
            Ok(socket) => discard_unread(&socket),
            Err(error) => tracing::debug!(%error, "a socket was closed with what it had unread"),
        }
    }
}

/// Reads what is there, without waiting; an end or an error of the socket is the end of it.
fn discard_unread(mut socket: &std::net::TcpStream) {
    let mut bin = [0; 8 * 1024];
    let mut discarded = 0;
    while let Ok(len @ 1..) = socket.read(&mut bin) {
        discarded += len;
        if discarded >= DRAIN_MAX {
            break;
        }
    }
}

/// Closes both sides with an RST; says whether all of it worked.
fn reset(sockets: [Option<TcpStream>; 2]) -> bool {
    let mut all = true;
    for socket in sockets.into_iter().flatten() {
        if let Err(error) = socket.set_zero_linger() {
            tracing::warn!(%error, "a link could not be reset and is closed instead");
            all = false;
        }
    }
    all
}
