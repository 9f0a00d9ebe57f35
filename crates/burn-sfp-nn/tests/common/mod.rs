//! The wgpu device of the tests.

#[cfg(feature = "wgpu")]
use burn::tensor::Device;

#[cfg(feature = "wgpu")]
#[path = "../../../burn-sfp-wgpu/tests/common/limit.rs"]
mod limit;

/// The default wgpu device for a test of limited time, or a word that the test was skipped.
#[cfg(feature = "wgpu")]
pub fn gpu() -> Option<Device> {
    limit::limit_test();
    let device = burn_sfp_nn::tensor::wgpu_device();
    if device.is_none() {
        println!("skipped: no wgpu adapter");
    }
    device
}
