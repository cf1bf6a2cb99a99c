//! A relay between pool and server that knows where the messages of Postgres' protocol begin and end,
//! and can stop the traffic at any of them, or within one.
//!
//! Only without TLS: a client that asks for it is not understood.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::frame::message_length;

/// Where the traffic stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before the message: its sender has written it, and its receiver gets nothing.
    Before,
    /// After its first byte.
    FirstByte,
    /// After the whole message.
    After,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// Whether messages pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// Stops at a message, counted from one.
    Armed {
        left: u32,
        cut: Cut,
    },
    /// Stopped, on this link.
    Shut(u64),
}

/// What becomes of one message.
enum Pass {
    Whole,
    /// Whole, and then everything stops.
    Last,
    /// One byte, and then everything stops.
    FirstByte,
}

#[derive(Debug)]
struct Shared {
    gate: Mutex<Gate>,
    /// Changes with every opening of the gate.
    opened: watch::Sender<u64>,
    /// The links that are open, and the one that is to break.
    links: watch::Sender<Links>,
    stopped: Notify,
    round_trips: AtomicU64,
}

#[derive(Debug, Default)]
struct Links {
    open: BTreeSet<u64>,
    broken: Option<u64>,
}

/// The relay. Ends with its value, its links included.
#[derive(Debug)]
pub(crate) struct Relay {
    shared: Arc<Shared>,
    port: u16,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            gate: Mutex::new(Gate::Open),
            opened: watch::Sender::new(0),
            links: watch::Sender::default(),
            stopped: Notify::new(),
            round_trips: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&shared)));
        Self {
            shared,
            port,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Makes the traffic stop at the `message`-th message from now on, counted from one.
    pub(crate) fn arm(&self, message: u32, cut: Cut) {
        *self.shared.gate() = Gate::Armed { left: message, cut };
    }

    /// Lets all pass that has not been stopped yet.
    pub(crate) fn disarm(&self) {
        let mut gate = self.shared.gate();
        if let Gate::Armed { .. } = *gate {
            *gate = Gate::Open;
        }
    }

    /// Waits until the traffic has stopped where it was to.
    pub(crate) async fn stopped(&self) {
        self.shared.stopped.notified().await;
    }

    /// Lets go on what was stopped.
    pub(crate) fn open(&self) {
        *self.shared.gate() = Gate::Open;
        self.shared.opened.send_modify(|times| *times += 1);
    }

    /// Breaks the link on which the traffic stopped, which loses what was held back, and lets the others
    /// go on.
    pub(crate) async fn break_stopped(&self) {
        let Gate::Shut(stopped) = *self.shared.gate() else {
            panic!("the traffic has not stopped");
        };
        let links = &self.shared.links;
        links.send_modify(|links| links.broken = Some(stopped));
        let mut watched = links.subscribe();
        let gone = watched.wait_for(|links| !links.open.contains(&stopped));
        drop(gone.await.unwrap());
        self.open();
    }

    /// How often the server's turn came after the client's, over all links.
    pub(crate) fn round_trips(&self) -> u64 {
        self.shared.round_trips.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap()
    }

    /// Waits until a message may pass.
    async fn pass(&self, link: u64) -> Pass {
        let mut opened = self.opened.subscribe();
        loop {
            {
                let mut gate = self.gate();
                match *gate {
                    Gate::Open => return Pass::Whole,
                    Gate::Armed { left, cut } if left > 1 => {
                        *gate = Gate::Armed {
                            left: left - 1,
                            cut,
                        };
                        return Pass::Whole;
                    }
                    Gate::Armed { cut, .. } => {
                        *gate = Gate::Shut(link);
                        match cut {
                            Cut::Before => self.stopped.notify_one(),
                            Cut::FirstByte => return Pass::FirstByte,
                            Cut::After => return Pass::Last,
                        }
                    }
                    Gate::Shut(_) => {}
                }
            }
            opened.changed().await.unwrap();
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    for id in 0.. {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        links.spawn(async move {
            let change = |change: fn(&mut BTreeSet<u64>, u64) -> bool| {
                let changed = |links: &mut Links| change(&mut links.open, id);
                shared.links.send_if_modified(changed)
            };
            change(BTreeSet::insert);
            link(id, client, server, &shared).await;
            change(|open, id| open.remove(&id));
        });
        while links.try_join_next().is_some() {}
    }
}

async fn link(id: u64, client: TcpStream, server: SocketAddr, shared: &Shared) {
    let mut links = shared.links.subscribe();
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whose turn it is on this link.
    let turn = Mutex::new(Way::ToClient);
    let up = Direction {
        id,
        way: Way::ToServer,
        shared,
        turn: &turn,
    };
    let down = Direction {
        way: Way::ToClient,
        ..up
    };
    let both = async {
        tokio::join!(
            up.carry(from_client, to_server),
            down.carry(from_server, to_client)
        )
    };
    tokio::select! {
        biased;
        _ = links.wait_for(|links| links.broken == Some(id)) => {}
        _ = both => {}
    }
}

struct Direction<'l> {
    id: u64,
    way: Way,
    shared: &'l Shared,
    turn: &'l Mutex<Way>,
}

impl Direction<'_> {
    /// Carries messages until the sender has finished or either end is gone.
    async fn carry(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Option<()> {
        let mut buffer = Vec::new();
        // A client's first message has no type.
        let mut header = if self.way == Way::ToServer { 0 } else { 1 };
        loop {
            while let Some(length) = message_length(&buffer, header) {
                let message: Vec<u8> = buffer.drain(..length).collect();
                self.deliver(&message, &mut to).await?;
                header = 1;
            }
            if from.read_buf(&mut buffer).await.ok()? == 0 {
                to.write_all(&buffer).await.ok()?;
                return to.shutdown().await.ok();
            }
        }
    }

    async fn deliver(&self, message: &[u8], to: &mut OwnedWriteHalf) -> Option<()> {
        match self.shared.pass(self.id).await {
            Pass::Whole => {
                self.count();
                to.write_all(message).await.ok()
            }
            Pass::Last => {
                self.count();
                let written = to.write_all(message).await;
                self.shared.stopped.notify_one();
                written.ok()
            }
            Pass::FirstByte => {
                let mut opened = self.shared.opened.subscribe();
                let written = to.write_all(&message[..1]).await;
                self.shared.stopped.notify_one();
                written.ok()?;
                opened.changed().await.unwrap();
                self.count();
                to.write_all(&message[1..]).await.ok()
            }
        }
    }

    fn count(&self) {
        let mut turn = self.turn.lock().unwrap();
        if std::mem::replace(&mut *turn, self.way) != self.way && self.way == Way::ToClient {
            self.shared.round_trips.fetch_add(1, Ordering::Relaxed);
        }
    }
}
