//! Operations on float tensors with gradients: shapes, elements, sums.

use burn::backend::Dispatch as D;
use burn::backend::DispatchTensor;
use burn::backend::ir::{
    BaseOperationIr as B, FloatOperationIr as F, NumericOperationIr as N, OperationIr, TensorId, TensorIr,
};
use burn::backend::ops::FloatTensorOps;

use super::execute::{Values, get};

/// What an operation with one result makes; `None` of an operation that is not known here.
pub(super) type One = Result<Option<(TensorId, DispatchTensor)>, String>;

/// Calls an operation of Burn's with the tensors that are named, then with everything else.
macro_rules! call {
    ($values:ident, $op:ident, $function:path, [$($tensor:ident),+] $(, $other:expr)*) => {
        Ok(Some(($op.out.id, $function($(get($values, &$op.$tensor)?),+ $(, $other)*))))
    };
}
pub(super) use call;

/// Runs an operation on tensors of which at least one has autodiff.
pub(super) fn run(op: &OperationIr, values: &Values) -> One {
    match op {
        OperationIr::BaseFloat(op) => base(op, values),
        OperationIr::NumericFloat(_, op) => numeric(op, values),
        OperationIr::Float(_, op) => float(op, values),
        _ => Ok(None),
    }
}

fn base(op: &B, values: &Values) -> One {
    match op {
        B::Reshape(op) => call!(values, op, D::float_reshape, [input], op.out.shape.clone()),
        B::Expand(op) => call!(values, op, D::float_expand, [input], op.out.shape.clone()),
        B::SwapDims(op) => call!(values, op, D::float_swap_dims, [input], op.dim1, op.dim2),
        B::Permute(op) => call!(values, op, D::float_permute, [input], &op.axes),
        B::Flip(op) => call!(values, op, D::float_flip, [input], &op.axes),
        B::Unfold(op) => call!(values, op, D::float_unfold, [input], op.dim, op.size, op.step),
        B::Slice(op) => call!(values, op, D::float_slice, [tensor], &op.ranges),
        B::SliceAssign(op) => {
            let (tensor, value) = (get(values, &op.tensor)?, get(values, &op.value)?);
            Ok(Some((op.out.id, D::float_slice_assign(tensor, &op.ranges, value))))
        }
        B::Gather(op) => {
            let (tensor, indices) = (get(values, &op.tensor)?, get(values, &op.indices)?);
            Ok(Some((op.out.id, D::float_gather(op.dim, tensor, indices))))
        }
        B::Scatter(op) => {
            let (tensor, indices) = (get(values, &op.tensor)?, get(values, &op.indices)?);
            Ok(Some((op.out.id, D::float_scatter(op.dim, tensor, indices, get(values, &op.value)?, op.update))))
        }
        B::Select(op) => {
            let (tensor, indices) = (get(values, &op.tensor)?, get(values, &op.indices)?);
            Ok(Some((op.out.id, D::float_select(tensor, op.dim, indices))))
        }
        B::SelectAssign(op) => {
            let (tensor, indices) = (get(values, &op.tensor)?, get(values, &op.indices)?);
            Ok(Some((op.out.id, D::float_select_assign(tensor, op.dim, indices, get(values, &op.value)?, op.update))))
        }
        B::MaskWhere(op) => call!(values, op, D::float_mask_where, [tensor, mask, value]),
        B::MaskFill(op) => call!(values, op, D::float_mask_fill, [tensor, mask], op.value.into()),
        B::RepeatDim(op) => call!(values, op, D::float_repeat_dim, [tensor], op.dim, op.times),
        B::Cat(op) => {
            let tensors: Result<Vec<_>, _> = op.tensors.iter().map(|tensor| get(values, tensor)).collect();
            Ok(Some((op.out.id, D::float_cat(tensors?, op.dim))))
        }
        B::Cast(op) => call!(values, op, D::float_cast, [input], op.out.dtype.into()),
        _ => Ok(None),
    }
}

fn numeric(op: &N, values: &Values) -> One {
    match op {
        N::Pad(op) => call!(values, op, D::float_pad, [input], &op.padding, op.mode.into()),
        N::Add(op) => call!(values, op, D::float_add, [lhs, rhs]),
        N::Sub(op) => call!(values, op, D::float_sub, [lhs, rhs]),
        N::Mul(op) => call!(values, op, D::float_mul, [lhs, rhs]),
        N::Div(op) => call!(values, op, D::float_div, [lhs, rhs]),
        N::Rem(op) => call!(values, op, D::float_remainder, [lhs, rhs]),
        N::Powi(op) => call!(values, op, D::float_powi, [lhs, rhs]),
        N::AddScalar(op) => call!(values, op, D::float_add_scalar, [lhs], op.rhs.into()),
        N::SubScalar(op) => call!(values, op, D::float_sub_scalar, [lhs], op.rhs.into()),
        N::MulScalar(op) => call!(values, op, D::float_mul_scalar, [lhs], op.rhs.into()),
        N::DivScalar(op) => call!(values, op, D::float_div_scalar, [lhs], op.rhs.into()),
        N::RemScalar(op) => call!(values, op, D::float_remainder_scalar, [lhs], op.rhs.into()),
        N::PowiScalar(op) => call!(values, op, D::float_powi_scalar, [lhs], op.rhs.into()),
        N::ClampMin(op) => call!(values, op, D::float_clamp_min, [lhs], op.rhs.into()),
        N::ClampMax(op) => call!(values, op, D::float_clamp_max, [lhs], op.rhs.into()),
        N::Clamp(op) => call!(values, op, D::float_clamp, [tensor], op.min.into(), op.max.into()),
        N::Abs(op) => call!(values, op, D::float_abs, [input]),
        N::Neg(op) => call!(values, op, D::float_neg, [input]),
        N::Sign(op) => call!(values, op, D::float_sign, [input]),
        N::Mean(op) => call!(values, op, D::float_mean, [input]),
        N::Sum(op) => call!(values, op, D::float_sum, [input]),
        N::Prod(op) => call!(values, op, D::float_prod, [input]),
        N::Max(op) => call!(values, op, D::float_max, [input]),
        N::Min(op) => call!(values, op, D::float_min, [input]),
        N::MeanDim(op) => call!(values, op, D::float_mean_dim, [input], op.axis),
        N::SumDim(op) => call!(values, op, D::float_sum_dim, [input], op.axis),
        N::ProdDim(op) => call!(values, op, D::float_prod_dim, [input], op.axis),
        N::MaxDim(op) => call!(values, op, D::float_max_dim, [input], op.axis),
        N::MinDim(op) => call!(values, op, D::float_min_dim, [input], op.axis),
        N::SumDims(op) => call!(values, op, D::float_sum_dims, [input], &op.axes),
        N::CumSum(op) => call!(values, op, D::float_cumsum, [input], op.axis),
        _ => Ok(None),
    }
}

fn float(op: &F, values: &Values) -> One {
    match op {
        F::Matmul(op) => call!(values, op, D::float_matmul, [lhs, rhs]),
        F::Powf(op) => call!(values, op, D::float_powf, [lhs, rhs]),
        F::PowfScalar(op) => call!(values, op, D::float_powf_scalar, [lhs], op.rhs.into()),
        F::Exp(op) => call!(values, op, D::float_exp, [input]),
        F::Log(op) => call!(values, op, D::float_log, [input]),
        F::Log1p(op) => call!(values, op, D::float_log1p, [input]),
        F::Erf(op) => call!(values, op, D::float_erf, [input]),
        F::Sqrt(op) => call!(values, op, D::float_sqrt, [input]),
        F::Cos(op) => call!(values, op, D::float_cos, [input]),
        F::Sin(op) => call!(values, op, D::float_sin, [input]),
        F::Tan(op) => call!(values, op, D::float_tan, [input]),
        F::Tanh(op) => call!(values, op, D::float_tanh, [input]),
        F::Cosh(op) => call!(values, op, D::float_cosh, [input]),
        F::Sinh(op) => call!(values, op, D::float_sinh, [input]),
        F::Recip(op) => call!(values, op, D::float_recip, [input]),
        _ => Ok(None),
    }
}

/// The value of a tensor that an operation may do without.
pub(super) fn optional(values: &Values, tensor: &Option<TensorIr>) -> Result<Option<DispatchTensor>, String> {
    tensor.as_ref().map(|tensor| get(values, tensor)).transpose()
}
