//! [`LayerChoices`]: how the layers of a forward pass run, to be printed, saved and used again.

use std::fmt;
use std::path::Path;

use burn_sfp_ndarray::{Storage, WinogradTile};
use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::choose::Entry;
use super::packed::Kernel;
use crate::GraphError;
use crate::file::{Format, load_json, save_json};
use crate::network::Network;

/// How a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Way {
    /// By Burn's own operations.
    Burn,
    /// By one kernel on packed weights.
    Packed,
    /// By one kernel with fewer products on transformed weights (Lavin and Gray 2015, arXiv 1509.09308).
    Winograd,
    /// By the sparse kernels.
    Sparse,
}

/// How a layer runs, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerChoice {
    /// Module path, or the name of the operation where the layer is none of the module's.
    pub layer: String,
    /// What it takes in: `batch norm`, `sum`, `relu`.
    pub takes_in: Vec<String>,
    /// How it runs.
    pub way: Way,
    /// Whether it runs as one kernel with what it takes in.
    pub fused: bool,
    /// Whether its packed weights are stored in 16 bits, as [`InferenceConfig::bfloat16`](super::InferenceConfig::bfloat16) allows.
    pub bfloat16: bool,
    /// Height and width of the tiles of outputs that are computed together, by [`Way::Winograd`].
    pub tile: Option<usize>,
    /// Seconds by Burn's operations, where they were measured.
    pub burn: Option<f64>,
    /// Seconds by the sparse kernel, where the layer is sparse and they were measured.
    pub sparse: Option<f64>,
    /// Seconds by one kernel on packed weights, where they were measured: of the faster one of the types that they may be stored in.
    pub packed: Option<f64>,
    /// Seconds on transformed weights, where they were measured: of the faster one of two sizes of tiles.
    pub winograd: Option<f64>,
}

impl LayerChoice {
    pub(super) fn new(entry: &Entry, kernel: Option<Kernel>, is_sparse: bool, measured: Measured) -> Self {
        let Measured { burn, sparse, packed, winograd } = measured;
        let (way, tile) = match kernel {
            None if is_sparse => (Way::Sparse, None),
            None => (Way::Burn, None),
            Some(Kernel::Sparse) => (Way::Sparse, None),
            Some(Kernel::Packed(_)) => (Way::Packed, None),
            Some(Kernel::Winograd(tile)) => (Way::Winograd, Some(tile.outputs())),
        };
        let (layer, takes_in, fused) = (entry.name.clone(), entry.takes_in.clone(), kernel.is_some());
        let bfloat16 = kernel == Some(Kernel::Packed(Storage::BFloat16));
        Self { layer, takes_in, way, fused, bfloat16, tile, burn, sparse, packed, winograd }
    }

    pub(super) fn measured(&self) -> Measured {
        let &Self { burn, sparse, packed, winograd, .. } = self;
        Measured { burn, sparse, packed, winograd }
    }

    /// The kernel that it runs as; `None` where Burn's operations do.
    pub(super) fn kernel(&self) -> Option<Kernel> {
        match self.way {
            Way::Burn => None,
            Way::Packed if self.bfloat16 => Some(Kernel::Packed(Storage::BFloat16)),
            Way::Packed => Some(Kernel::Packed(Storage::Single)),
            Way::Sparse => self.fused.then_some(Kernel::Sparse),
            Way::Winograd => {
                let tiles = [WinogradTile::Two, WinogradTile::Four].into_iter();
                tiles.rev().find(|tile| self.tile == Some(tile.outputs())).map(Kernel::Winograd)
            }
        }
    }
}

/// Shortest seconds of a layer, by the ways that were measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    pub burn: Option<f64>,
    pub sparse: Option<f64>,
    pub packed: Option<f64>,
    pub winograd: Option<f64>,
}

const FORMAT: Format = Format {
    name: "burn-sfp layer choices",
    what: "how the layers of a forward pass run",
    version: 1,
    advice: "make it anew with `Inference::new` and save its `choices()`",
};

/// How the layers of a forward pass run. It prints as a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerChoices {
    /// Shapes of the inputs that it was measured on.
    pub input_shapes: Vec<Vec<usize>>,
    /// In the order in which they run.
    pub layers: Vec<LayerChoice>,
}

impl LayerChoices {
    /// Writes the choices as JSON with a checksum, to be used again by [`InferenceConfig::choices`](super::InferenceConfig::choices) beside
    /// the model's own file. The file appears whole or not at all.
    ///
    /// ```
    /// # use burn::prelude::*;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn_sfp_graph::GraphModule;
    /// use burn_sfp_graph::{Inference, InferenceConfig, LayerChoices};
    /// # #[derive(Module, Debug)]
    /// # struct Mlp { a: Linear, b: Linear }
    /// # impl GraphModule for Mlp {
    /// #     type Inputs = Tensor<2>;
    /// #     type Outputs = Tensor<2>;
    /// #     fn run(&self, x: Tensor<2>) -> Tensor<2> {
    /// #         self.b.forward(burn::tensor::activation::relu(self.a.forward(x)))
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let mlp = Mlp { a: LinearConfig::new(4, 8).init(&device), b: LinearConfig::new(8, 2).init(&device) };
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("choices.json");
    /// let x = Tensor::ones([2, 4], &device);
    /// Inference::new(&mlp, &x)?.choices().save(&path)?;
    ///
    /// // Another start, on the same kind of machine: nothing is measured.
    /// let config = InferenceConfig::new().choices(LayerChoices::load(&path)?);
    /// let fast = Inference::with_config(&mlp, &x, &config)?;
    /// assert_eq!(*fast.choices(), LayerChoices::load(&path)?);
    /// # Ok::<(), burn_sfp_graph::GraphError>(())
    /// ```
    ///
    /// # Errors
    /// [`GraphError::File`] where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), GraphError> {
        Ok(save_json(path.as_ref(), &FORMAT, self)?)
    }

    /// Reads choices that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`GraphError::File`] where the file is missing, truncated, damaged, foreign or of another version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, GraphError> {
        Ok(load_json(path.as_ref(), &FORMAT)?)
    }

    /// Whether they are of this forward pass: the same inputs, and the same layers that take in the same.
    pub(super) fn fits(&self, network: &Network, entries: &[Entry]) -> bool {
        let same =
            |(choice, entry): (&LayerChoice, &Entry)| choice.layer == entry.name && choice.takes_in == entry.takes_in;
        self.input_shapes == network.input_shapes
            && self.layers.len() == entries.len()
            && self.layers.iter().zip(entries).all(same)
    }
}

impl fmt::Display for LayerChoices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN).set_header([
            "layer",
            "takes in",
            "runs by",
            "Burn, µs",
            "sparse, µs",
            "packed, µs",
            "Winograd, µs",
        ]);
        let micros = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{:.1}", 1e6 * seconds));
        for layer in &self.layers {
            let way = match layer.way {
                Way::Burn => "Burn",
                Way::Packed if layer.bfloat16 => "packed, 16 bits",
                Way::Packed => "packed",
                Way::Winograd => "Winograd",
                Way::Sparse => "sparse",
            };
            let takes_in = layer.takes_in.join(", ");
            let seconds = [layer.burn, layer.sparse, layer.packed, layer.winograd].map(micros);
            table.add_row([layer.layer.clone(), takes_in, way.into()].into_iter().chain(seconds));
        }
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}
