//! A queue of chunks that the threads of the devices take from, and whose turn it is to hand in what came of one.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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
}

/// Items in order; whoever takes one waits for it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T: Placed> Queue<T> {
    /// Without items; it is this place's turn.
    pub fn new(turn: usize) -> Self {
        let state = State { waiting: VecDeque::new(), turn, is_closed: false };
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

    /// Takes the next item; `None` once the queue is closed.
    pub fn take(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(item) = state.waiting.pop_front() {
                return Some(item);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes it the turn of a place.
    pub fn turn(&self, place: usize) {
        self.lock().turn = place;
        self.changed.notify_all();
    }

    /// Waits for the turn of a place, or that of the place before it, so that one can come in while the other is merged. Not where an item before
    /// it waits to be taken, since all who could take it may wait here.
    pub fn wait_for_turn(&self, place: usize) {
        let mut state = self.lock();
        while !state.is_closed
            && state.turn.saturating_add(1) < place
            && state.waiting.front().is_none_or(|item| item.place() > place)
        {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the work of all who take once the guard is gone, however that comes about: whoever waits for them would wait for ever.
    pub fn closing(&self) -> Closing<'_, T> {
        Closing(self)
    }

    /// Ends the work of all who take.
    fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

/// Closes a queue when it is dropped.
pub(super) struct Closing<'a, T: Placed>(&'a Queue<T>);

impl<T: Placed> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.close();
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
        assert_eq!((queue.take(), queue.take()), (Some(0), Some(1)));
        assert_eq!(queue.drain(), [2, 3, 4]);
        let waits = thread::scope(|scope| {
            let waits = scope.spawn(|| (queue.take(), queue.take()));
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
    fn turns_come_in_order_or_for_what_comes_before() {
        let queue = Queue::<usize>::new(2);
        queue.wait_for_turn(3);
        queue.wait_for_turn(1);
        let done = |place: usize, wake: &dyn Fn()| {
            thread::scope(|scope| {
                let waits = scope.spawn(|| queue.wait_for_turn(place));
                thread::sleep(std::time::Duration::from_millis(5));
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
