//! Devices by name, for command lines.

use burn::tensor::Device;
use clap::ValueEnum;
use serde::Serialize;

/// A device that a command line can ask for. All but flex need a feature of the example, so that a plain build compiles one
/// backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    /// Burn's CPU backend.
    Flex,
    /// Burn's older CPU backend, much slower here (feature `ndarray`).
    Ndarray,
    /// The default GPU through wgpu (feature `wgpu`).
    Wgpu,
}

/// The example was built without the backend of the requested device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this build has no {feature} backend; build it with it: cargo run --release -p EXAMPLE --features {feature} -- ..."
)]
pub struct MissingBackend {
    /// The feature that brings the backend.
    pub feature: &'static str,
}

impl DeviceName {
    /// Returns the device.
    ///
    /// # Errors
    /// [`MissingBackend`] where the feature of the same name is off.
    pub fn device(self) -> Result<Device, MissingBackend> {
        match self {
            Self::Flex => Ok(Device::flex()),
            Self::Ndarray => ndarray(),
            Self::Wgpu => wgpu(),
        }
    }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "burn-ndarray ends with Burn 0.22, the release this is pinned to")]
fn ndarray() -> Result<Device, MissingBackend> {
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<Device, MissingBackend> {
    Err(MissingBackend { feature: "ndarray" })
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Device, MissingBackend> {
    Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Device, MissingBackend> {
    Err(MissingBackend { feature: "wgpu" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_there_exactly_with_its_feature() {
        assert!(DeviceName::Flex.device().is_ok());
        assert_eq!(DeviceName::Ndarray.device().is_ok(), cfg!(feature = "ndarray"));
        let text = MissingBackend { feature: "wgpu" }.to_string();
        assert!(text.contains("--features wgpu"), "{text}");
    }
}
