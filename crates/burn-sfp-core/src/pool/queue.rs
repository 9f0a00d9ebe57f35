//! A queue of chunks that the threads of the devices take from.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<T> {
    waiting: VecDeque<T>,
    is_closed: bool,
}

/// Items in order; whoever takes one waits for it.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Queue<T> {
    pub fn new() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), is_closed: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing here panics between two changes of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item behind the others.
    pub fn push(&self, item: T) {
        self.lock().waiting.push_back(item);
        self.changed.notify_one();
    }

    /// Adds an item in front of the others.
    pub fn push_front(&self, item: T) {
        self.lock().waiting.push_front(item);
        self.changed.notify_one();
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

    #[test]
    fn items_come_once_and_in_order() {
        let queue = Queue::new();
        (0..5).for_each(|item| queue.push(item));
        queue.push_front(9);
        assert_eq!((queue.take(), queue.take()), (Some(9), Some(0)));
        assert_eq!(queue.drain(), [1, 2, 3, 4]);
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
}
