//! Every network pruned to half of its multiply-adds and saved; and loaded again, in another process.

use std::fs;
use std::path::{Path, PathBuf};

use burn::store::{ModuleSnapshot, SafetensorsStore};
use burn::tensor::Device;
use burn_sfp::prelude::{
    CostUnit, GraphModule, Keep, Magnitude, Planner, PruneError, PrunedModule, RemovalOrder, load_pruned,
};

use crate::random::randomise;
use crate::values::values;
use crate::zoo::{Entry, Size, Visit, visit_all};

/// What came of one network.
#[derive(Clone, Debug, PartialEq)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Parameters before and after.
    pub parameters: (u64, u64),
    /// Multiply-adds before and after.
    pub macs: (u64, u64),
    /// Bytes of the original's file, written by Burn, and of the pruned model's, plan included.
    pub bytes: (u64, u64),
}

impl Shipped {
    /// Bytes after over bytes before, over the same ratio of parameters.
    pub fn excess(&self) -> f64 {
        let ratio = |(before, after): (u64, u64)| after as f64 / before.max(1) as f64;
        ratio(self.bytes) / ratio(self.parameters)
    }
}

/// Prunes each network to half of its multiply-adds by magnitude and saves it into a folder, with its outputs on the zoo's input.
///
/// # Errors
/// What pruning or saving ends in.
pub fn save_all(size: Size, folder: &Path, device: &Device) -> Result<Vec<Shipped>, Box<dyn std::error::Error>> {
    let mut save = Save { folder, done: Vec::new(), failed: None };
    visit_all(size, device, &mut save);
    save.failed.map_or(Ok(save.done), Err)
}

/// The names of the networks whose outputs are the same bit for bit, and of all others.
pub type Compared = (Vec<&'static str>, Vec<&'static str>);

/// Loads what [`save_all`] saved into freshly made networks and compares their outputs with those that were saved.
///
/// # Errors
/// What loading ends in.
pub fn load_all(size: Size, folder: &Path, device: &Device) -> Result<Compared, Box<dyn std::error::Error>> {
    let mut load = Load { folder, same: Vec::new(), other: Vec::new(), failed: None };
    visit_all(size, device, &mut load);
    load.failed.map_or(Ok((load.same, load.other)), Err)
}

/// The path of a network's file with this ending.
fn file(folder: &Path, entry: &Entry, ending: &str) -> PathBuf {
    let name: String = entry.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    folder.join(format!("{name}.{ending}"))
}

/// All numbers of the outputs, bit by bit.
fn outputs<M: GraphModule>(model: &M, input: M::Inputs) -> Vec<u8> {
    values(model.run(input)).into_iter().flatten().flat_map(f64::to_le_bytes).collect()
}

/// Prunes to half of the multiply-adds, all layers alike, or as far as it goes.
fn half<M: GraphModule>(model: &M, input: &M::Inputs) -> Result<PrunedModule<M>, PruneError> {
    let to = |keep: Keep| {
        let planner = Planner::new().budget(keep.order(RemovalOrder::EvenPerGroup));
        planner.prune(model, input, &Magnitude::l2())
    };
    match to(Keep::macs(0.5)) {
        Err(PruneError::BudgetNotMet { least, .. }) => to(Keep::at_most(CostUnit::Macs, least as u64)),
        pruned => pruned,
    }
}

struct Save<'a> {
    folder: &'a Path,
    done: Vec<Shipped>,
    failed: Option<Box<dyn std::error::Error>>,
}

impl Save<'_> {
    fn save<M: GraphModule>(
        &self,
        entry: &Entry,
        model: &M,
        input: M::Inputs,
    ) -> Result<Shipped, Box<dyn std::error::Error>> {
        let original = file(self.folder, entry, "original.safetensors");
        model.save_into(&mut SafetensorsStore::from_file(&original).overwrite(true))?;
        let pruned = half(model, &input)?;
        let path = file(self.folder, entry, "safetensors");
        pruned.save(&path)?;
        fs::write(file(self.folder, entry, "outputs"), outputs(&pruned.model, input))?;
        let bytes = (fs::metadata(&original)?.len(), fs::metadata(&path)?.len());
        fs::remove_file(original)?;
        let plan = &pruned.plan;
        Ok(Shipped {
            name: entry.name,
            parameters: (plan.parameters_before, plan.parameters_after),
            macs: (plan.macs_before, plan.macs_after),
            bytes,
        })
    }
}

impl Visit for Save<'_> {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        match self.save(entry, &randomise(&model, 1), input) {
            Ok(shipped) => self.done.push(shipped),
            Err(error) => self.failed = self.failed.take().or(Some(format!("{}: {error}", entry.name).into())),
        }
    }
}

struct Load<'a> {
    folder: &'a Path,
    same: Vec<&'static str>,
    other: Vec<&'static str>,
    failed: Option<Box<dyn std::error::Error>>,
}

impl Visit for Load<'_> {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let load = || -> Result<bool, Box<dyn std::error::Error>> {
            let loaded = load_pruned(model, file(self.folder, entry, "safetensors"))?.model;
            Ok(fs::read(file(self.folder, entry, "outputs"))? == outputs(&loaded, input))
        };
        match load() {
            Ok(true) => self.same.push(entry.name),
            Ok(false) => self.other.push(entry.name),
            Err(error) => self.failed = self.failed.take().or(Some(format!("{}: {error}", entry.name).into())),
        }
    }
}
