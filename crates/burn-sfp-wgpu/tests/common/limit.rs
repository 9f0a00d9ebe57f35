//! A limit on the time of a test that waits for a device: a lost wake-up in a driver or in the runtime ends the run with the name of the
//! test, instead of letting it wait forever.

use std::cell::RefCell;
use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Many times what the slowest test takes on two busy cores.
const LIMIT: Duration = Duration::from_secs(600);

thread_local! {
    /// Dropped with the thread of the test, which ends the watch.
    static WATCH: RefCell<Option<Sender<()>>> = const { RefCell::new(None) };
}

/// Ends the process with the name of the test if its thread still runs after [`LIMIT`]; a further call starts anew.
pub fn limit_test() {
    limit_to(LIMIT);
}

fn limit_to(limit: Duration) {
    let name = std::thread::current().name().unwrap_or("without a name").to_string();
    let (sender, receiver) = channel::<()>();
    WATCH.set(Some(sender));
    std::thread::spawn(move || {
        if receiver.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            // Not by a macro: what those print is captured, and lost when the process ends.
            let message = format!("\ntest {name} did not end within {} s\n", limit.as_secs());
            let _ = std::io::stderr().write_all(message.as_bytes());
            std::process::abort();
        }
    });
}
