//! Which parameters learn, and which learned before: what a user froze stays frozen, and nothing else is frozen afterwards.

use std::collections::{BTreeSet, HashSet};

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamGroup};
use burn::tensor::Tensor;
use burn_sfp_core::SfpModule;

use crate::{PruneError, PrunePlan};

/// Returns a copy of the model for training in which only the parameters that the plan names learn; all of them where `all` is
/// set or the plan names none. What the user froze stays frozen. The copy shares no running statistics with the model.
pub(super) fn trainable<M: SfpModule>(model: &M, plan: &PrunePlan, all: bool) -> Result<M, PruneError> {
    if all || plan.trainable.is_empty() {
        return learn_all(model);
    }
    let copy = model.valid();
    let before = Activity::of(&copy);
    let named: HashSet<String> = plan.trainable.iter().filter_map(|path| plan.path_after(path)).collect();
    if !before.learning().iter().any(|path| named.contains(*path)) {
        return Err(frozen("all layers that the plan touches"));
    }
    let active = before.entries.into_iter().filter(|entry| entry.active && named.contains(entry.path.as_str()));
    let paths: Vec<String> = active.map(|entry| entry.path).collect();
    Ok(copy.freeze().unfreeze_group(ParamGroup::from_paths(paths)).train())
}

/// Returns a copy of the model for training in which everything learns that the user did not freeze. The copy shares no running
/// statistics with the model.
pub(super) fn learn_all<M: Module>(model: &M) -> Result<M, PruneError> {
    let copy = model.valid();
    if Activity::of(&copy).learning().is_empty() { Err(frozen("all layers of the model")) } else { Ok(copy.train()) }
}

fn frozen(what: &str) -> PruneError {
    let why =
        format!("{what} are frozen (`Module::freeze`, `no_grad`, `set_require_grad`): unfreeze some before training");
    PruneError::NothingTrained { why }
}

/// Whether each parameter of a module learns, and whether each of its flags (those of dropouts and batch normalisations) is set.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    path: String,
    active: bool,
    is_flag: bool,
}

impl Activity {
    pub fn of<M: Module>(model: &M) -> Self {
        // What a module in evaluation mode has suspended shows in training only.
        let mut read = Read { path: Vec::new(), entries: Vec::new() };
        model.valid().train().visit(&mut read);
        Self { entries: read.entries }
    }

    /// Paths of the parameters that learn.
    pub fn learning(&self) -> BTreeSet<&str> {
        let learning = self.entries.iter().filter(|entry| entry.active && !entry.is_flag);
        learning.map(|entry| entry.path.as_str()).collect()
    }

    /// Puts this activity back into a module of the same parameters, and returns it in evaluation mode.
    pub fn restore<M: Module>(&self, model: M) -> M {
        model.map(&mut Restore(self.entries.iter())).valid()
    }
}

struct Read {
    path: Vec<String>,
    entries: Vec<Entry>,
}

impl Read {
    fn add(&mut self, active: bool, is_flag: bool) {
        self.entries.push(Entry { path: self.path.join("."), active, is_flag });
    }
}

impl ModuleVisitor for Read {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }
    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.add(param.base().is_require_grad(), false);
    }
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.add(flag.is_enabled(), true);
    }
}

/// Visitors and mappers meet the parameters in the same order.
struct Restore<I>(I);

impl<'a, I: Iterator<Item = &'a Entry>> ModuleMapper for Restore<I> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.next() {
            Some(entry) => param.set_require_grad(entry.active),
            None => param,
        }
    }
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        match self.0.next() {
            Some(entry) => flag.with_value(entry.active),
            None => flag,
        }
    }
}
