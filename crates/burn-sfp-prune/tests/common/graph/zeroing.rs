//! The test's own idea of what a plan removes, written without the library's rewriting: numbers on the host.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use burn_sfp_prune::PrunePlan;

/// A copy of the model with zeros wherever the plan cuts.
pub fn zeroed<M: Module>(model: &M, plan: &PrunePlan) -> M {
    model.valid().map(&mut Zero(Vec::new(), plan))
}

struct Zero<'a>(Vec<String>, &'a PrunePlan);

impl ModuleMapper for Zero<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.0.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.0.join(".");
        let Some(cut) = self.1.cuts.iter().find(|cut| cut.path == path) else { return param };
        param.map(|tensor| {
            let (dims, device) = (tensor.dims(), tensor.device());
            let mut values = tensor.into_data().try_to_vec::<f32>().expect("parameters are f32");
            for axis in &cut.axes {
                let inner: usize = dims[axis.axis + 1..].iter().product();
                for (k, value) in values.iter_mut().enumerate() {
                    if !axis.keep.contains(&(k / inner % dims[axis.axis])) {
                        *value = 0.0;
                    }
                }
            }
            Tensor::from_data(TensorData::new(values, dims), &device)
        })
    }
}

/// Every parameter and running statistic by path, bit for bit.
pub fn bytes<M: Module>(model: &M) -> Vec<(String, Vec<u8>)> {
    let mut read = Read::default();
    model.visit(&mut read);
    read.all
}

/// Numbers in everything that is trained.
pub fn trained<M: Module>(model: &M) -> u64 {
    let statistic = |path: &str| path.ends_with("running_mean") || path.ends_with("running_var");
    bytes(model).iter().filter(|(path, _)| !statistic(path)).map(|(_, bytes)| bytes.len() as u64 / 4).sum()
}

#[derive(Default)]
struct Read {
    path: Vec<String>,
    all: Vec<(String, Vec<u8>)>,
}

impl ModuleVisitor for Read {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.all.push((self.path.join("."), param.base().into_data().as_bytes().to_vec()));
    }
}
