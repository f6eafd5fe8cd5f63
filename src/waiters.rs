//! Requests that wait for a token: bounded in number, each with a deadline. All operations are logarithmic.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Millis;
use crate::token::Generation;

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Index of the app whose token it needs.
    pub app: usize,
    /// Since when it waits.
    pub since: Millis,
    /// When it has waited long enough.
    pub deadline: Millis,
    /// A resent request needs a token newer than this one, which was rejected.
    pub newer_than: Generation,
}

/// The list is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All requests of one worker that wait.
///
/// The types inside are chosen so that maps and sets share their code with others in the .wasm.
#[derive(Debug)]
pub struct Waiters {
    capacity: usize,
    by_stream: BTreeMap<u32, Box<Waiter>>,
    by_app: BTreeSet<(u64, u32)>,
    by_deadline: BTreeSet<(Millis, u32)>,
}

impl Waiters {
    /// An empty list for at most `capacity` requests.
    pub fn new(capacity: usize) -> Waiters {
        Waiters {
            capacity,
            by_stream: BTreeMap::new(),
            by_app: BTreeSet::new(),
            by_deadline: BTreeSet::new(),
        }
    }

    /// Adds a request, unless the list is full.
    pub fn park(&mut self, stream: u32, waiter: Waiter) -> Result<(), Full> {
        self.leave(stream);
        if self.by_stream.len() >= self.capacity {
            return Err(Full);
        }
        self.by_stream.insert(stream, Box::new(waiter));
        self.by_app.insert((waiter.app as u64, stream));
        self.by_deadline.insert((waiter.deadline, stream));
        Ok(())
    }

    /// Removes a request: it goes on, or its caller hung up.
    pub fn leave(&mut self, stream: u32) -> Option<Waiter> {
        let waiter = self.by_stream.remove(&stream)?;
        self.by_app.remove(&(waiter.app as u64, stream));
        self.by_deadline.remove(&(waiter.deadline, stream));
        Some(*waiter)
    }

    /// The requests that wait for `app`, oldest first.
    pub fn of_app(&self, app: usize) -> Vec<(u32, Waiter)> {
        self.by_app
            .range((app as u64, 0)..=(app as u64, u32::MAX))
            .filter_map(|(_, stream)| Some((*stream, **self.by_stream.get(stream)?)))
            .collect()
    }

    /// The requests whose deadline has come.
    pub fn overdue(&self, now: Millis) -> Vec<(u32, Waiter)> {
        self.by_deadline
            .range(..=(now, u32::MAX))
            .filter_map(|(_, stream)| Some((*stream, **self.by_stream.get(stream)?)))
            .collect()
    }

    /// The apps that somebody waits for, each once, by index.
    pub fn apps(&self) -> Vec<usize> {
        let mut apps: Vec<usize> = self.by_app.iter().map(|(app, _)| *app as usize).collect();
        apps.dedup();
        apps
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_stream.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.by_stream.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(app: usize, deadline: u64) -> Waiter {
        Waiter {
            app,
            since: Millis(0),
            deadline: Millis(deadline),
            newer_than: Generation(0),
        }
    }

    #[test]
    fn the_list_is_bounded_and_a_caller_that_hangs_up_leaves_nothing_behind() {
        let mut waiters = Waiters::new(2);
        assert_eq!(waiters.park(1, waiter(0, 10)), Ok(()));
        assert_eq!(waiters.park(2, waiter(1, 5)), Ok(()));
        assert_eq!(waiters.park(3, waiter(0, 5)), Err(Full));
        assert_eq!(waiters.leave(1), Some(waiter(0, 10)));
        assert_eq!(waiters.leave(1), None);
        assert_eq!(waiters.of_app(0), []);
        assert_eq!(waiters.park(3, waiter(0, 5)), Ok(()));
        assert_eq!((waiters.len(), waiters.is_empty()), (2, false));
        waiters.leave(2);
        waiters.leave(3);
        assert!(waiters.is_empty() && waiters.overdue(Millis(u64::MAX)).is_empty());
    }

    #[test]
    fn those_of_an_app_come_oldest_first_and_the_overdue_by_deadline() {
        let mut waiters = Waiters::new(10);
        for (stream, app, deadline) in [(9, 1, 30), (4, 0, 20), (7, 1, 10)] {
            waiters.park(stream, waiter(app, deadline)).unwrap();
        }
        let streams = |list: Vec<(u32, Waiter)>| list.iter().map(|(s, _)| *s).collect::<Vec<_>>();
        assert_eq!(streams(waiters.of_app(1)), [7, 9]);
        assert_eq!(streams(waiters.overdue(Millis(20))), [7, 4]);
        assert_eq!(waiters.apps(), [0, 1]);
    }

    #[test]
    fn parking_twice_moves_the_request() {
        let mut waiters = Waiters::new(1);
        waiters.park(1, waiter(0, 10)).unwrap();
        waiters.park(1, waiter(0, 20)).unwrap();
        assert_eq!(waiters.overdue(Millis(15)), []);
        assert_eq!(waiters.len(), 1);
    }
}
