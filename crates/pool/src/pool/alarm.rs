//! The alarm: one task and one timer for the deadlines of all who wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::tasks::until;
use super::{Books, Inner, Phase, now};
use crate::connector::Connector;

/// What is shared with the task that keeps the deadlines.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    /// The first of them is earlier than it was.
    earlier: Notify,
    /// The task has ended: the pool is closed, or its runtime has shut down.
    lost: AtomicBool,
}

impl<C: Connector> Inner<C> {
    /// Returns whether the alarm will ring for the caller: it still runs, and somebody drives its runtime
    /// while the caller is polled. Where the caller is on no runtime there is no other.
    pub(super) fn alarm_rings(&self) -> bool {
        let on_it = || Handle::try_current().map_or(true, |here| here.id() == self.handle.id());
        !self.alarm_is_lost() && (self.drives_itself || on_it())
    }

    /// Returns whether those who wait must look after their deadlines themselves.
    #[inline]
    pub(super) fn alarm_is_lost(&self) -> bool {
        let alarm = self.alarm.get();
        alarm.is_some_and(|alarm| alarm.lost.load(Ordering::Acquire))
    }

    /// Tells the keeper of deadlines that the first of them is earlier than it was.
    #[cold]
    pub(super) fn set_alarm(self: &Arc<Self>) {
        let mut unstarted = None;
        let alarm = self.alarm.get_or_init(|| {
            let alarm = Arc::new(Alarm::default());
            unstarted = Some(Arc::clone(&alarm));
            alarm
        });
        alarm.earlier.notify_one();
        // Not before it can be found: where the runtime has shut down the task ends at once.
        if let Some(alarm) = unstarted {
            self.spawn_keeper(alarm);
        }
    }

    fn spawn_keeper(self: &Arc<Self>, alarm: Arc<Alarm>) {
        let phase = self.phase.subscribe();
        let keeper = Keeper {
            // Weak, so that it does not keep a dropped pool alive.
            inner: Arc::downgrade(self),
            alarm,
        };
        self.handle.spawn(until(
            Phase::CutShort,
            phase,
            async move { keeper.keep().await },
        ));
    }
}

/// The task. When it is dropped all who wait hear of it.
struct Keeper<C: Connector> {
    inner: Weak<Inner<C>>,
    alarm: Arc<Alarm>,
}

impl<C: Connector> Keeper<C> {
    async fn keep(&self) {
        let next = || self.inner.upgrade();
        while let Some(alarm) = next().map(|inner| inner.shell.read(Books::<C>::alarm)) {
            match alarm {
                None => self.alarm.earlier.notified().await,
                Some(at) => tokio::select! {
                    () = self.alarm.earlier.notified() => continue,
                    () = sleep_until(at.into()) => {}
                },
            }
            if let Some(inner) = self.inner.upgrade() {
                inner.change(|books| books.ring(now()));
            }
        }
    }
}

impl<C: Connector> Drop for Keeper<C> {
    fn drop(&mut self) {
        // Before the wakes: whoever queues after those finds it out in the same poll.
        self.alarm.lost.store(true, Ordering::Release);
        if let Some(inner) = self.inner.upgrade() {
            inner.change(Books::<C>::wake_timed);
        }
    }
}
