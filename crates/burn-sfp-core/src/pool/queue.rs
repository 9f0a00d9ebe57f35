//! A queue of chunks that the threads of the devices take from, and whose turn it is to hand in what came of one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What has a place in an order.
pub(super) trait Placed {
    /// Its place.
    fn place(&self) -> usize;
}

struct State<T> {
    waiting: VecDeque<T>,
    /// The place whose turn it is.
    turn: usize,
    is_closed: bool,
    /// Who works on something: the place of the item, and since when.
    busy: BTreeMap<usize, (usize, Instant)>,
    /// Who gets no more items.
    left_out: BTreeSet<usize>,
}

/// Items in order; whoever takes one waits for it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T: Placed> Queue<T> {
    /// Without items; it is this place's turn.
    pub fn new(turn: usize) -> Self {
        let (busy, left_out) = Default::default();
        let state = State { waiting: VecDeque::new(), turn, is_closed: false, busy, left_out };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing here panics between two changes of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item at its place.
    pub fn push(&self, item: T) {
        let mut state = self.lock();
        let behind = state.waiting.iter().position(|other| other.place() > item.place());
        let at = behind.unwrap_or(state.waiting.len());
        state.waiting.insert(at, item);
        self.changed.notify_all();
    }

    /// Takes out what nobody has taken yet.
    pub fn drain(&self) -> Vec<T> {
        self.lock().waiting.drain(..).collect()
    }

    /// Takes the next item for `who`, who is busy from then on; `None` once the queue is closed, or `who` left out.
    pub fn take(&self, who: usize) -> Option<T> {
        let mut state = self.lock();
        state.busy.remove(&who);
        loop {
            if state.is_closed || state.left_out.contains(&who) {
                return None;
            }
            if let Some(item) = state.waiting.pop_front() {
                state.busy.insert(who, (item.place(), Instant::now()));
                return Some(item);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives `who` no more items.
    pub fn leave_out(&self, who: usize) {
        let mut state = self.lock();
        state.busy.remove(&who);
        state.left_out.insert(who);
        self.changed.notify_all();
    }

    /// Whether `who` gets no more items.
    pub fn is_left_out(&self, who: usize) -> bool {
        self.lock().left_out.contains(&who)
    }

    /// Who has been busy with which place for longer than `limit`, and how long it takes until somebody may be.
    pub fn overdue(&self, limit: Duration) -> (Vec<(usize, usize)>, Duration) {
        let state = self.lock();
        let (mut late, mut soonest) = (Vec::new(), limit);
        for (&who, &(place, since)) in &state.busy {
            match limit.checked_sub(since.elapsed()) {
                Some(left) => soonest = soonest.min(left),
                None => {
                    late.push((who, place));
                    soonest = Duration::ZERO;
                }
            }
        }
        (late, soonest)
    }

    /// Makes it the turn of a place.
    pub fn turn(&self, place: usize) {
        self.lock().turn = place;
        self.changed.notify_all();
    }

    /// Waits for the turn of a place, or that of the place before it, so that one can come in while the other is merged. Not where an item before
    /// it waits to be taken, since all who could take it may wait here. `who` is not busy meanwhile.
    pub fn wait_for_turn(&self, who: usize, place: usize) {
        let mut state = self.lock();
        state.busy.remove(&who);
        while !state.is_closed
            && state.turn.saturating_add(1) < place
            && state.waiting.front().is_none_or(|item| item.place() > place)
        {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.left_out.contains(&who) {
            state.busy.insert(who, (place, Instant::now()));
        }
    }

    /// Ends the work of all who take.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    impl Placed for usize {
        fn place(&self) -> usize {
            *self
        }
    }

    #[test]
    fn items_come_once_and_in_order() {
        let queue = Queue::new(0);
        [1, 2, 4, 0, 3].into_iter().for_each(|item| queue.push(item));
        assert_eq!((queue.take(0), queue.take(1)), (Some(0), Some(1)));
        assert_eq!(queue.drain(), [2, 3, 4]);
        let waits = thread::scope(|scope| {
            let waits = scope.spawn(|| (queue.take(0), queue.take(0)));
            queue.push(7);
            while !queue.lock().waiting.is_empty() {
                thread::yield_now();
            }
            queue.close();
            waits.join().unwrap()
        });
        assert_eq!(waits, (Some(7), None));
    }

    #[test]
    fn who_is_busy_for_too_long_is_known() {
        let (queue, long) = (Queue::new(0), Duration::from_secs(600));
        [0, 1, 2].into_iter().for_each(|item| queue.push(item));
        assert_eq!((queue.take(7), queue.take(8)), (Some(0), Some(1)));
        let late = || queue.overdue(Duration::ZERO).0;
        thread::sleep(Duration::from_millis(1));
        assert_eq!(late(), [(7, 0), (8, 1)]);
        assert_eq!(queue.overdue(Duration::from_nanos(1)).1, Duration::ZERO);
        let (none, left) = queue.overdue(long);
        assert!(none.is_empty() && left < long);
        // Whoever waits for a turn comes back busy, and whoever has handed in is not.
        queue.turn(1);
        queue.wait_for_turn(8, 1);
        queue.leave_out(7);
        thread::sleep(Duration::from_millis(1));
        assert_eq!(late(), [(8, 1)]);
        queue.wait_for_turn(7, 0);
        assert_eq!((queue.take(7), late()), (None, vec![(8, 1)]));
        queue.close();
        assert_eq!((queue.take(8), late()), (None, vec![]));
    }

    #[test]
    fn turns_come_in_order_or_for_what_comes_before() {
        let queue = Queue::<usize>::new(2);
        queue.wait_for_turn(0, 3);
        queue.wait_for_turn(0, 1);
        let done = |place: usize, wake: &dyn Fn()| {
            thread::scope(|scope| {
                let waits = scope.spawn(|| queue.wait_for_turn(0, place));
                thread::sleep(Duration::from_millis(5));
                assert!(!waits.is_finished());
                wake();
                waits.join().unwrap();
            });
        };
        done(5, &|| queue.turn(4));
        // A later item does not matter, an earlier one does.
        queue.push(9);
        done(8, &|| queue.push(6));
        queue.drain();
        done(8, &|| queue.close());
    }
}
