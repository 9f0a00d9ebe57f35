//! The residual blocks that a plan leaves out: where parameters are in the smaller module, and whether the blocks are the model's.

use burn_sfp_nn::Removable;

use super::PrunePlan;
use super::check::Shapes;

impl PrunePlan {
    /// Returns the module path in the smaller model of a parameter or module of the original, `None` if it is left out with its block.
    ///
    /// ```
    /// # use burn_sfp_prune::PrunePlan;
    /// /// The layers of the smaller model.
    /// fn layers(plan: &PrunePlan) -> Vec<String> {
    ///     plan.layers.iter().filter_map(|layer| plan.path_after(&layer.path)).collect()
    /// }
    /// ```
    pub fn path_after(&self, path: &str) -> Option<String> {
        Removable::path_without(&self.blocks, path)
    }

    /// Returns the module path in the original of a parameter or module of the smaller model.
    pub(crate) fn path_before(&self, path: &str) -> String {
        Removable::path_before(&self.blocks, path)
    }
}

/// Checks that each part holds parameters of the model, and that none is there twice or inside of another.
pub(super) fn check_blocks(blocks: &[Removable], shapes: &Shapes<'_>) -> Result<(), String> {
    for (index, block) in blocks.iter().enumerate() {
        if block.path.is_empty() || !shapes.keys().any(|path| block.holds(path)) {
            return Err(format!("it leaves `{}` out, of which its model has no parameter", block.path));
        }
        let twice = |other: &&Removable| other.holds(&block.path) || block.holds(&other.path);
        if let Some(other) = blocks[..index].iter().find(twice) {
            return Err(format!("it leaves `{}` out with `{}`", block.path, other.path));
        }
    }
    Ok(())
}
