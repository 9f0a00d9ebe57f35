//! What the sparse layers share: their format, its check, and the conversion to another one.

use burn::module::Param;
use burn::tensor::Tensor;

use super::format::WeightFormat;
use super::sparsity::Sparsity;
use super::weight::{convert, replace};
use crate::NnError;
use crate::walk::ShapeIds;

/// The format of a layer's weight, `None` of a dense layer.
///
/// # Panics
/// Where the layer was loaded from integers that describe no format: a forward pass has no way to return an error.
pub(crate) fn format_of(sparsity: &Sparsity) -> Option<&WeightFormat> {
    sparsity.format().unwrap_or_else(|error| panic!("{error}"))
}

/// Checks that a weight of this shape holds what the format says.
pub(crate) fn check<const D: usize>(sparsity: &Sparsity, shape: [usize; D]) -> Result<(), NnError> {
    match sparsity.format()? {
        Some(format) => check_rows(format, &shape),
        None => Ok(()),
    }
}

/// [`check`] of a sparse weight.
pub(super) fn check_rows(format: &WeightFormat, shape: &[usize]) -> Result<(), NnError> {
    let rows = format.rows();
    match shape {
        [first, 1, kernel @ ..] if *first == rows => check_size(format, kernel),
        _ => Err(NnError::WeightShape { shape: shape.to_vec(), rows }),
    }
}

/// Checks that the dense weight of a format would fit into memory. A format that is small itself may stand for any number of inputs.
fn check_size(format: &WeightFormat, kernel: &[usize]) -> Result<(), NnError> {
    /// Up to here nobody asks.
    const SMALL: usize = 1 << 30;
    let (outputs, inputs) = (format.outputs(), format.inputs());
    let kernel = kernel.iter().try_fold(1_usize, |all, length| all.checked_mul(*length));
    // An index and the elements of the kernel for each pair.
    let pair = kernel.and_then(|kernel| kernel.checked_mul(4)?.checked_add(8));
    let bytes = outputs.checked_mul(inputs).and_then(|pairs| pairs.checked_mul(pair?));
    match bytes {
        Some(bytes) if bytes <= SMALL || Vec::<u8>::new().try_reserve_exact(bytes).is_ok() => Ok(()),
        _ => Err(NnError::TooLarge { outputs, inputs }),
    }
}

/// Converts a layer's weight to another format, `None` for dense; outputs are on axis `output_axis` of a dense weight.
pub(crate) fn with_format<const D: usize>(
    weight: Param<Tensor<D>>,
    sparsity: Sparsity,
    to: Option<WeightFormat>,
    output_axis: usize,
) -> Result<(Param<Tensor<D>>, Sparsity), NnError> {
    let from = sparsity.format()?.cloned();
    if from.is_none() && to.is_none() {
        return Ok((weight, sparsity));
    }
    let shape = weight.dims();
    check(&sparsity, shape)?;
    if let Some(to) = &to {
        let size = (shape[output_axis], shape[1 - output_axis]);
        let (outputs, inputs) = from.as_ref().map_or(size, |from| (from.outputs(), from.inputs()));
        to.fits(outputs, inputs)?;
    }
    let device = weight.lazy_device();
    let weight =
        replace(weight, &mut ShapeIds::default(), |weight| convert(weight, from.as_ref(), to.as_ref(), output_axis));
    let sparsity = match to {
        Some(format) => Sparsity::of(format, &device),
        None => Sparsity::dense(&device),
    };
    Ok((weight, sparsity))
}
