//! Every network has its published size, and its small variant runs.

use burn::tensor::{Bool, Device, Int, Tensor};
use burn_sfp::prelude::{GraphModule, InputMapper, ModuleInput};
use models::random::randomise;
use models::size::{macs, parameters};
use models::zoo::{Entry, SMALL_BATCH, SMALL_CLASSES, Size, Visit, visit_all};

#[test]
fn parameters_are_the_published_ones() {
    struct Compare(usize);
    impl Visit for Compare {
        fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, _input: M::Inputs) {
            let counted = parameters(&model);
            assert_ne!(entry.parameters_agree(counted), Some(false), "{}: {counted}", entry.name);
            self.0 += 1;
        }
    }
    let mut compare = Compare(0);
    visit_all(Size::Standard, &Device::flex(), &mut compare);
    assert!(compare.0 >= 20);
}

#[test]
fn multiply_adds_are_the_published_ones() {
    struct Compare;
    impl Visit for Compare {
        fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
            if (entry.macs, entry.layer_macs) == (None, None) {
                return;
            }
            let counted = macs(&model, &input).unwrap_or_else(|error| panic!("{}: {error}", entry.name));
            assert_ne!(entry.macs_agree(counted), Some(false), "{}: {counted:?}", entry.name);
        }
    }
    visit_all(Size::Standard, &Device::flex(), &mut Compare);
}

#[test]
fn small_networks_run_on_any_batch() {
    struct Run;
    impl Visit for Run {
        fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
            assert_eq!(input.samples(), SMALL_BATCH, "{}", entry.name);
            let model = randomise(&model, 1);
            for samples in [1, 3] {
                let outputs = model.run(input.clone().slice_samples(0, samples));
                for shape in outputs.shapes() {
                    assert_eq!(shape[0], samples, "{}: {shape:?}", entry.name);
                    assert!(shape.len() != 2 || shape[1] == SMALL_CLASSES, "{}: {shape:?}", entry.name);
                }
                let mut largest = Largest(0.0);
                let _ = outputs.map_tensors(&mut largest);
                assert!((1e-3..1e3).contains(&largest.0), "{}: {}", entry.name, largest.0);
            }
        }
    }
    visit_all(Size::Small, &Device::flex(), &mut Run);
}

/// The largest magnitude, infinite where a number is not finite.
struct Largest(f32);

impl InputMapper for Largest {
    fn float<const D: usize>(&mut self, tensor: Tensor<D>) -> Tensor<D> {
        for value in tensor.to_data().iter::<f32>() {
            self.0 = if value.is_finite() { self.0.max(value.abs()) } else { f32::INFINITY };
        }
        tensor
    }
    fn int<const D: usize>(&mut self, tensor: Tensor<D, Int>) -> Tensor<D, Int> {
        tensor
    }
    fn bool<const D: usize>(&mut self, tensor: Tensor<D, Bool>) -> Tensor<D, Bool> {
        tensor
    }
}
