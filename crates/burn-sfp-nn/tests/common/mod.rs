//! The wgpu device of the tests.

#[cfg(feature = "wgpu")]
use burn::tensor::Device;

/// The default wgpu device, or a word that the test was skipped.
#[cfg(feature = "wgpu")]
pub fn gpu() -> Option<Device> {
    let device = burn_sfp_nn::tensor::wgpu_device();
    if device.is_none() {
        println!("skipped: no wgpu adapter");
    }
    device
}
