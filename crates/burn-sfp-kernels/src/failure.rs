//! The meaning of a device's messages and panics.
//!
//! Burn's backends report some failures, a lack of memory among them, only by the text of an error or a panic.

use std::any::Any;

/// Returns whether an error message of a device says that it lacked memory.
///
/// # Example
/// ```
/// use burn_sfp_kernels::lacks_memory;
///
/// assert!(lacks_memory("CUDA_ERROR_OUT_OF_MEMORY: out of memory"));
/// assert!(lacks_memory("Not enough memory left"));
/// assert!(!lacks_memory("device lost"));
/// ```
pub fn lacks_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    let phrases =
        ["out of memory", "outofmemory", "out-of-memory", "not enough memory", "buffer is too big", "buffertoobig"];
    phrases.iter().any(|phrase| message.contains(phrase))
}

/// Returns the message of a caught panic.
///
/// # Example
/// ```
/// use burn_sfp_kernels::panic_message;
///
/// let payload = std::panic::catch_unwind(|| panic!("no {}", "adapter")).unwrap_err();
/// assert_eq!(panic_message(payload), "no adapter");
/// ```
pub fn panic_message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_string(),
            Err(_) => "a panic without a message".to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_has_a_message() {
        assert_eq!(panic_message(Box::new("text")), "text");
        assert_eq!(panic_message(Box::new("text".to_string())), "text");
        assert_eq!(panic_message(Box::new(7)), "a panic without a message");
    }
}
