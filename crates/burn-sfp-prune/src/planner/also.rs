//! [`Also`]: forward passes besides the main one.

use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;

use burn_sfp_graph::{ForwardPass, GraphModule};

use crate::PruneError;

/// Forward passes of a model whose type a planner does not know.
#[derive(Clone, Default)]
pub(super) struct Also(Vec<(Arc<dyn Any + Send + Sync>, &'static str)>);

impl Also {
    pub fn add<M: GraphModule>(&mut self, pass: ForwardPass<M>) {
        self.0.push((Arc::new(pass), type_name::<M>()));
    }

    /// Returns the passes as those of a model.
    pub fn of<M: GraphModule>(&self) -> Result<Vec<ForwardPass<M>>, PruneError> {
        let pass = |(pass, name): &(Arc<dyn Any + Send + Sync>, &'static str)| {
            let other = || PruneError::OtherModel { found: name.to_string(), expected: type_name::<M>().to_string() };
            pass.downcast_ref::<ForwardPass<M>>().cloned().ok_or_else(other)
        };
        self.0.iter().map(pass).collect()
    }
}

impl fmt::Debug for Also {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, name)| name)).finish()
    }
}
