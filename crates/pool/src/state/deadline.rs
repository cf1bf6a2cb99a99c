//! The deadlines of those who wait, for which the shell needs a single timer: the *alarm*.

use std::time::Instant;

use super::{Actions, State};

impl<C, W: Clone, E: Clone> State<C, W, E> {
    /// Returns when [`State::ring`] is due.
    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// Wakes those whose deadline has come, who then find that out themselves.
    pub(crate) fn ring(&mut self, now: Instant) -> Actions<C, W> {
        let mut actions = Actions::none();
        if self.alarm.is_none_or(|alarm| alarm > now) {
            return actions;
        }
        self.alarm = None;
        for (deadline, waker) in self.queue.deadlines() {
            if deadline <= now {
                actions.wake(waker.clone());
            } else {
                self.alarm = self.alarm.into_iter().chain([deadline]).min();
            }
        }
        actions
    }

    /// Wakes all who have a deadline, because nobody will ring any more.
    pub(crate) fn wake_timed(&mut self) -> Actions<C, W> {
        let mut actions = Actions::none();
        for (_, waker) in self.queue.deadlines() {
            actions.wake(waker.clone());
        }
        actions
    }
}

impl<C, W, E: Clone> State<C, W, E> {
    /// Sees to it that the alarm is due by then.
    pub(super) fn note_deadline(&mut self, deadline: Instant, actions: &mut Actions<C, W>) {
        actions.set_alarm |= self.advance_alarm(deadline);
    }

    /// Sees to it that the alarm is due by then; returns whether that is earlier than it was.
    pub(super) fn advance_alarm(&mut self, deadline: Instant) -> bool {
        let earlier = self.alarm.is_none_or(|alarm| deadline < alarm);
        if earlier {
            self.alarm = Some(deadline);
        }
        earlier
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{limits, origin};
    use super::super::{Asked, Asker, Expired, Place, Request, WaiterKey};
    use super::*;

    type Books = State<u8, u8, &'static str>;

    fn at(secs: u64) -> Instant {
        origin() + Duration::from_secs(secs)
    }

    fn wait(state: &mut Books, waker: u8, deadline: u64) -> (WaiterKey, bool) {
        let asker = Asker {
            location: std::panic::Location::caller(),
            task: None,
        };
        let request = Request {
            asker,
            place: Place::Tail,
            deadline: Some(at(deadline)),
        };
        let (asked, actions) = state.acquire(origin(), request, || waker);
        let Asked::Queued(key) = asked else {
            panic!("{asked:?}")
        };
        (key, actions.set_alarm)
    }

    fn woken(actions: Actions<u8, u8>) -> Vec<u8> {
        actions.wake.into_iter().chain(actions.wake_more).collect()
    }

    #[test]
    fn the_alarm_is_set_for_the_first_deadline_and_then_for_the_next() {
        let mut state = Books::new(limits(1, 0));
        let (first, set) = wait(&mut state, 1, 30);
        assert!(set);
        assert!(!wait(&mut state, 2, 31).1, "it rings before that anyway");
        let (third, set) = wait(&mut state, 3, 10);
        assert!(set, "an earlier one");
        assert_eq!(state.alarm(), Some(at(10)));
        assert_eq!(woken(state.ring(at(9))), [0; 0], "too early");
        assert_eq!(woken(state.ring(at(10))), [3]);
        assert_eq!(state.alarm(), Some(at(30)));
        let expired = state.expire(third);
        assert!(matches!(expired, Expired::TimedOut(_, 3)), "{expired:?}");
        drop(state.cancel(first, at(11)));
        assert_eq!(woken(state.ring(at(40))), [2], "the first is gone");
        assert_eq!(state.alarm(), None);
        assert!(wait(&mut state, 4, 50).1, "the next must set it again");
        assert!(!wait(&mut state, 5, 50).1, "it rings then anyway");
        state.audit();
    }

    #[test]
    fn the_alarm_is_set_for_the_first_of_those_that_are_left_whoever_came_first() {
        let mut state = Books::new(limits(1, 0));
        for (waker, deadline) in [(1, 10), (2, 30), (3, 20), (4, 40)] {
            wait(&mut state, waker, deadline);
        }
        assert_eq!(woken(state.ring(at(10))), [1]);
        assert_eq!(state.alarm(), Some(at(20)));
    }
}
