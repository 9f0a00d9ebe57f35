//! [`PlainField`]: a field of a module that is no parameter.

use std::collections::BTreeSet;

use burn_sfp_nn::FieldEdit;

use crate::channels::ids::ChannelId;

/// A plain field that may have to change when channels leave.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlainField {
    /// The field and its value, as an edit that changes nothing.
    pub field: FieldEdit,
    /// The channels (atoms, see [`Flow`](crate::Flow)) that have to stay where the field cannot be set.
    pub channels: BTreeSet<ChannelId>,
    /// The mean over channels that meets the field, by its index.
    pub(crate) mean: Option<usize>,
    /// The stream whose scaling takes the place of a change of the field.
    pub(crate) stream: Option<usize>,
    /// Whether the layer is one of Burn's or ours, by its fields.
    pub(crate) known: bool,
}

impl PlainField {
    /// Whether the layer is one of Burn's or ours, so that deriving `Shrink` around it is enough.
    pub fn is_known(&self) -> bool {
        self.known
    }
}

/// Whether a struct of this name with these float parameters is one of Burn's layers, or ours, that keeps `field`.
pub(crate) fn is_known(container: &str, parameters: &[&str], field: &str) -> bool {
    let only = |names: &[&str]| parameters.iter().all(|name| names.contains(name));
    match field {
        "groups" => {
            let name = container.strip_prefix("Sparse").unwrap_or(container);
            matches!(name, "Conv1d" | "Conv2d" | "Conv3d" | "ConvTranspose1d" | "ConvTranspose2d" | "ConvTranspose3d")
                && only(&["weight", "bias"])
        }
        "weight_groups" => container == "DeformConv2d" && only(&["weight", "bias"]),
        "num_groups" | "num_channels" => matches!(container, "GroupNorm" | "InstanceNorm") && only(&["gamma", "beta"]),
        "epsilon" | "centered" => matches!(container, "RmsNorm" | "CenteredLayerNorm") && only(&["gamma", "beta"]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn layers_are_known_by_name_and_parameters() {
        assert!(is_known("Conv2d", &["weight", "bias"], "groups") && is_known("RmsNorm", &["gamma"], "epsilon"));
        assert!(!is_known("Conv2d", &["weight", "scale"], "groups"));
        assert!(!is_known("OwnNorm", &["gamma"], "epsilon") && !is_known("RmsNorm", &["weight"], "epsilon"));
    }
}
