//! [`Lent`]: a capture device for the time of one recording.
//!
//! Burn numbers capture devices with 16 bits and never gives a number back, so that a device for each recording, or for each thread, would
//! use them up. A device can record again and again, one graph at a time: there are as many as recordings run at the same time.

use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Device;

use crate::GraphError;
use crate::error::{one_line, panic_message};

/// Devices that record nothing at the moment.
static FREE: Mutex<Vec<Device>> = Mutex::new(Vec::new());

/// A capture device that no other recording uses until it is dropped.
pub(super) struct Lent(Device);

impl Lent {
    /// Takes a device that is free, or makes one.
    pub fn take() -> Result<Self, GraphError> {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let device = match free {
            Some(device) => device,
            None => catch_unwind(Device::capture).map_err(|payload| {
                let message = one_line(&panic_message(payload));
                GraphError::Capture(format!(
                    "Burn has no number left for another capture device ({message}): this process made 65,536 of them \
                     (`Device::capture`); make one and use it again, or capture fewer models at the same time"
                ))
            })?,
        };
        Ok(Self(device))
    }

    pub fn device(&self) -> &Device {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self.0.clone());
    }
}
