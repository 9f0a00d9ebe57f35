//! Operations apart from the tensors that they work on: their options.

use burn::backend::Shape;
use burn::backend::ir::{
    IrVisitorMut, ModuleOperationIr as M, OperationIr, ScalarIr, TensorId, TensorIr, TensorStatus,
};
use burn::tensor::Slice;

/// The operation with the same tensor, without a shape, in the place of each of its tensors.
pub(crate) fn without_tensors(op: &OperationIr) -> OperationIr {
    struct Tensors;
    impl IrVisitorMut for Tensors {
        fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
            no_tensor(tensor);
        }
    }
    let mut op = op.clone();
    op.visit_mut(&mut Tensors);
    op
}

/// What is left of an operation without its tensors, scalars, groups and the bounds of slices, which are compared in other ways.
pub(crate) fn options(op: &OperationIr) -> OperationIr {
    struct All;
    impl IrVisitorMut for All {
        fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
            no_tensor(tensor);
        }
        fn visit_scalar_mut(&mut self, scalar: &mut ScalarIr) {
            *scalar = ScalarIr::Int(0);
        }
        fn visit_range_mut(&mut self, range: &mut Slice) {
            *range = Slice::new(0, None, 1);
        }
    }
    let mut op = op.clone();
    op.visit_mut(&mut All);
    // How many groups there are follows from the channels: `Describe::mismatch` compares them.
    if let OperationIr::Module(module) = &mut op {
        match module {
            M::Conv1d(op) => op.options.groups = 1,
            M::Conv2d(op) => op.options.groups = 1,
            M::Conv3d(op) => op.options.groups = 1,
            M::ConvTranspose1d(op) => op.options.groups = 1,
            M::ConvTranspose2d(op) => op.options.groups = 1,
            M::ConvTranspose3d(op) => op.options.groups = 1,
            M::DeformableConv2d(op) => op.options.weight_groups = 1,
            _ => {}
        }
    }
    op
}

fn no_tensor(tensor: &mut TensorIr) {
    tensor.id = TensorId::new(0);
    tensor.shape = Shape::from(Vec::<usize>::new());
    tensor.status = TensorStatus::ReadOnly;
}
