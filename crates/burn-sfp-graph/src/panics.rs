//! Panics of Burn and of forward passes that are expected, caught without a message on the standard error stream.
//!
//! Burn's shape checks and users' assertions panic, and so does reading a value that a capture has not computed. Such panics are part of
//! capturing and planning; those that the user has to know of become errors. The hook is installed once; it hands every other panic to the hook that was there before.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use crate::error::{one_line, panic_message};

thread_local! {
    static QUIET: Cell<usize> = const { Cell::new(0) };
}

/// Calls `work`; panics of this thread meanwhile print nothing.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // A hook cannot be replaced while a panic is under way.
        if std::thread::panicking() {
            return;
        }
        let before = take_hook();
        set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if QUIET.with(Cell::get) == 0 {
                before(info);
            }
        }));
    });
    struct Louder;
    impl Drop for Louder {
        fn drop(&mut self) {
            QUIET.with(|quiet| quiet.set(quiet.get() - 1));
        }
    }
    QUIET.with(|quiet| quiet.set(quiet.get() + 1));
    let _louder = Louder;
    work()
}

/// Calls `work`. The error is the message of its panic, on one line; nothing is printed.
///
/// Burn checks shapes, types and devices by panicking. What cannot be checked beforehand is caught here and becomes a typed error.
///
/// # Errors
/// The panic's message.
pub fn attempt<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    quietly(|| catch_unwind(AssertUnwindSafe(work))).map_err(|payload| one_line(&panic_message(payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_panic_is_the_error() {
        assert_eq!(attempt(|| 3), Ok(3));
        assert_eq!(attempt(|| panic!("axis {}\n\n  differs", 1)), Err::<(), _>("axis 1 differs".into()));
    }
}
