//! [`save_pruned`]: a pruned model and its plan as one file.

use std::path::Path;

use burn::module::Module;
use burn::store::{ModuleSnapshot, burn_pack};
use burn_sfp_core::SfpError;
use burn_sfp_graph::{FileError, GraphError, attempt};

use super::plan_bytes::encode;
use super::precision::Precision;
use super::{burnpack, safetensors};
use crate::rewrite::made_by;
use crate::{PruneError, PrunePlan, Pruned, PrunedModule};

/// How a pruned model is saved.
///
/// ```
/// use burn_sfp_prune::{Precision, SaveConfig};
/// let config = SaveConfig::new().half();
/// assert_eq!(config, SaveConfig::new().precision(Precision::Half));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaveConfig {
    precision: Precision,
}

impl SaveConfig {
    /// Creates the settings of [`Pruned::save`]: weights as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the element type of the weights; batch normalisations stay as they are.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Saves the weights in half precision; short for [`Precision::Half`].
    pub fn half(self) -> Self {
        self.precision(Precision::Half)
    }
}

/// Writes a pruned model and its plan as one file, from which [`load_pruned`](crate::load_pruned) makes the model again. The
/// model may have been trained, materialised, folded ([`fold_batch_norms`](crate::fold_batch_norms)) and made sparse
/// ([`sparsify`](crate::sparsify)) since.
///
/// The ending of the path decides the container: burnpack for `.bpk`, safetensors otherwise. Either can be read with Burn's
/// stores and other tools: tensors have the module paths of their parameters. One more, `burn-sfp/plan`, holds the plan as JSON
/// compressed with gzip. The file carries its format, version, length and a checksum, appears whole or not at all, and replaces what
/// was there.
///
/// ```
/// # use burn::prelude::*;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn_sfp_graph::GraphModule;
/// # use burn_sfp_prune::{Magnitude, Planner};
/// # #[derive(Module, Debug)]
/// # struct Mlp { a: Linear, b: Linear }
/// # impl Mlp {
/// #     fn new(device: &Device) -> Self {
/// #         Self { a: LinearConfig::new(4, 8).init(device), b: LinearConfig::new(8, 2).init(device) }
/// #     }
/// # }
/// # impl GraphModule for Mlp {
/// #     type Inputs = Tensor<2>;
/// #     type Outputs = Tensor<2>;
/// #     fn run(&self, x: Tensor<2>) -> Tensor<2> { self.b.forward(self.a.forward(x)) }
/// # }
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("mlp.safetensors");
/// # let device = Device::flex();
/// use burn_sfp_prune::{SaveConfig, load_pruned, save_pruned};
///
/// let smaller = Planner::new().prune(&Mlp::new(&device), &Tensor::zeros([1, 4], &device), &Magnitude::l2())?;
/// save_pruned(&smaller.model, &smaller.plan, &path, &SaveConfig::new())?;
///
/// // In another process:
/// let loaded = load_pruned(Mlp::new(&device), &path)?;
/// assert_eq!(loaded.model.a.weight.dims(), [4, 4]);
/// assert_eq!(loaded.plan, smaller.plan);
/// # Ok::<(), burn_sfp_prune::PruneError>(())
/// ```
///
/// # Errors
/// - [`PruneError::InvalidPlan`] if the plan contradicts itself or was changed;
/// - [`PruneError::ModelMismatch`] if the model does not have the shapes that the plan leaves;
/// - [`PruneError::NotSaved`] if a parameter is quantised, does not fit into half precision, or cannot be read from its device;
/// - [`SfpError::File`] if the file cannot be written.
pub fn save_pruned<M: Module>(
    model: &M,
    plan: &PrunePlan,
    path: impl AsRef<Path>,
    config: &SaveConfig,
) -> Result<(), PruneError> {
    let path = path.as_ref();
    let _span = tracing::info_span!("save", path = %path.display()).entered();
    made_by(plan, model)?;
    let invalid = |message| SfpError::from(FileError::Content { path: path.into(), message });
    let bytes = encode(plan).map_err(invalid)?;
    let failed = |message| GraphError::Replay { operation: None, name: "reading the parameters".into(), message };
    let tensors = attempt(|| tensors_of(model)).map_err(failed)?;
    let tensors = config.precision.convert(model, tensors)?;
    if path.extension().is_some_and(|ending| ending == burn_pack::EXTENSION) {
        burnpack::write(path, tensors, &bytes)
    } else {
        safetensors::write(path, tensors, &bytes)
    }
}

/// The tensors of a model by module path, read from their device when they are asked for.
fn tensors_of<M: Module>(model: &M) -> Vec<burn_pack::Tensor> {
    model.valid().collect(None, None, false)
}

impl<M: Module> PrunedModule<M> {
    /// Writes the model and its plan as one file; see [`save_pruned`].
    ///
    /// # Errors
    /// Those of [`save_pruned`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PruneError> {
        self.save_with(path, &SaveConfig::new())
    }

    /// [`save`](PrunedModule::save) with settings.
    ///
    /// # Errors
    /// Those of [`save_pruned`].
    pub fn save_with(&self, path: impl AsRef<Path>, config: &SaveConfig) -> Result<(), PruneError> {
        save_pruned(&self.model, &self.plan, path, config)
    }
}

impl<M: Module> Pruned<M> {
    /// Writes the model and its plan as one file; see [`save_pruned`]. After training, the trained model takes the place of the pruned one:
    ///
    /// ```no_run
    /// # use burn::data::dataset::InMemDataset;
    /// # use burn_sfp_core::{Calibration, Progress, SfpModule};
    /// # use burn_sfp_prune::{FineTuneConfig, PruneError, Pruned, fine_tune};
    /// # fn train<M: SfpModule>(model: M) -> M { model }
    /// # fn example<M: SfpModule>(mut pruned: Pruned<M>) -> Result<(), PruneError> {
    /// pruned.model = train(pruned.model);
    /// pruned.save("net.safetensors")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`save_pruned`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PruneError> {
        self.save_with(path, &SaveConfig::new())
    }

    /// [`save`](Pruned::save) with settings.
    ///
    /// # Errors
    /// Those of [`save_pruned`].
    pub fn save_with(&self, path: impl AsRef<Path>, config: &SaveConfig) -> Result<(), PruneError> {
        save_pruned(&self.model, &self.plan, path, config)
    }
}
