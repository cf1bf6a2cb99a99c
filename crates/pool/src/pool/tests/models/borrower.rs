//! What an acquire and a lease do with the shell, and nothing else.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::bare::{Books, Connection, Pool, now};
use super::shell::{Answer, Ask, Quick, Wait};
use crate::state::{
    Asked, Asker, Conn, Expired, Found, Granted, Place, Reason, Refusal, WaiterKey,
};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotServed {
    Refused(Refusal),
    /// A connection could not be opened.
    Failed,
    TimedOut,
}

pub(super) type Served = Result<Lease, NotServed>;

/// `pool::Acquire` without pings, hooks, metrics and timers of its own.
#[derive(Debug)]
pub(super) struct Acquire {
    pool: Arc<Pool>,
    wait: Wait,
    deadline: Option<Instant>,
}

impl Acquire {
    pub(super) fn new(pool: Arc<Pool>, deadline: Option<Instant>) -> Self {
        Self {
            pool,
            wait: Wait::Ask,
            deadline,
        }
    }

    fn ask(&mut self, place: Place, waker: &Waker) -> Option<Served> {
        let ask = Ask {
            asker: Asker {
                location: Location::caller(),
                task: None,
            },
            place,
            now: now(),
            waker,
            only_if: None,
        };
        let (shell, wait, deadline) = (&self.pool.shell, &mut self.wait, self.deadline);
        match shell.ask_quickly(wait, ask, || deadline) {
            Quick::Ready(granted) => return Some(self.serve(granted)),
            Quick::Queued {
                key,
                has_alarm,
                set_alarm,
            } => {
                assert_eq!(*wait, Wait::Queued(key));
                assert!(has_alarm == deadline.is_some() && (has_alarm || !set_alarm));
                return None;
            }
            Quick::No => {}
        }
        let answer = shell.ask(wait, ask, deadline);
        let Answer {
            asked,
            refused_at,
            actions,
        } = answer.expect("nothing was asked of the numbers");
        assert!(refused_at.is_none(), "the queue has room: {refused_at:?}");
        self.pool.perform(actions);
        match asked {
            Asked::Ready(granted) => Some(self.serve(granted)),
            Asked::Queued(_) => None,
            Asked::Refused(refusal) => Some(Err(NotServed::Refused(refusal))),
            Asked::QueueFull { .. } | Asked::Down { .. } => panic!("{asked:?}"),
        }
    }

    fn look(&mut self, key: WaiterKey, waker: &Waker) -> Option<Served> {
        let found = self.pool.shell.look(&mut self.wait, key, waker)?;
        Some(match found {
            Found::Granted(granted) => self.serve(granted),
            Found::Failed(_) => Err(NotServed::Failed),
            Found::Refused(refusal) => Err(NotServed::Refused(refusal)),
            Found::Waiting(_) => panic!("a look told nothing"),
        })
    }

    fn expire(&mut self, key: WaiterKey) -> Served {
        let (expired, counts) = self.pool.shell.expire(&mut self.wait, key);
        match expired {
            Expired::Granted(granted) => self.serve(granted),
            Expired::Failed(_) => Err(NotServed::Failed),
            Expired::Refused(refusal) => Err(NotServed::Refused(refusal)),
            Expired::TimedOut(_, waker) => {
                drop(waker);
                assert!(counts.waiting > 0, "it counts itself");
                Err(NotServed::TimedOut)
            }
        }
    }

    fn serve(&self, granted: Granted<Connection>) -> Served {
        self.pool.count_lease();
        Ok(Lease {
            pool: Arc::clone(&self.pool),
            held: Some(granted),
        })
    }
}

impl Future for Acquire {
    type Output = Served;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Served> {
        let this = self.get_mut();
        let served = match this.wait {
            Wait::Ask => this.ask(Place::Tail, cx.waker()),
            Wait::AskAgain => this.ask(Place::Head, cx.waker()),
            Wait::Queued(key) => this.look(key, cx.waker()),
            Wait::Over => panic!("polled after its end"),
        };
        match (served, this.wait) {
            (Some(served), _) => Poll::Ready(served),
            (None, Wait::Queued(key)) if this.deadline.is_some() => {
                if this.pool.is_late() {
                    return Poll::Ready(this.expire(key));
                }
                Poll::Pending
            }
            (None, _) => Poll::Pending,
        }
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(actions) = self.pool.shell.leave(&mut self.wait, now()) {
            self.pool.perform(actions);
        }
    }
}

/// Polls once, with a waker that wakes nobody.
pub(super) fn poll_once(acquire: &mut Acquire) -> Poll<Served> {
    poll_with(acquire, Waker::noop())
}

pub(super) fn poll_with(acquire: &mut Acquire, waker: &Waker) -> Poll<Served> {
    Pin::new(acquire).poll(&mut Context::from_waker(waker))
}

/// `pool::Lease`.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Pool>,
    held: Option<Granted<Connection>>,
}

impl Lease {
    /// Has the connection reset, which works or not, before anyone else gets it.
    pub(super) fn reset(mut self, works: bool) {
        let Some(conn) = self.retire() else { return };
        if works {
            self.pool.change(|books| books.restore(conn, now()));
        } else {
            drop(conn);
            let lost = |books: &mut Books| books.lost(Reason::Unfit, now());
            self.pool.change(lost);
        }
    }

    /// Finds the connection dead, and asks again, before all others.
    pub(super) fn ask_again(mut self) -> Acquire {
        if let Some(conn) = self.retire() {
            let generation = conn.generation;
            let invalidate = |books: &mut Books| books.invalidate(generation, now());
            self.pool.change(invalidate);
            drop(conn);
            let lost = |books: &mut Books| books.lost(Reason::Broken, now());
            self.pool.change(lost);
        }
        let mut acquire = self.pool.acquire();
        acquire.wait = Wait::AskAgain;
        acquire
    }

    fn retire(&mut self) -> Option<Conn<Connection>> {
        let granted = self.held.take()?;
        let retire = |books: &mut Books| books.retire(granted, now());
        let (conn, actions) = self.pool.shell.change_and_tell(retire);
        self.pool.perform(actions);
        Some(conn)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(granted) = self.held.take()
            && let Some(actions) = self.pool.shell.put(granted, now())
        {
            self.pool.perform(actions);
        }
    }
}
