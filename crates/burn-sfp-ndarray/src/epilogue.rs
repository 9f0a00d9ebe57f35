//! Scale, shift and activation of the output filters.

use pulp::Simd;

use crate::vector::mul_add;
use crate::{KernelError, expect_len};

/// The operations applied to every output element before it is stored: `y = activation(scale[o] * sum + shift[o])`.
///
/// Scale and shift express a batch normalization in evaluation mode or a bias. Absent parts are skipped.
///
/// # Example
/// ```
/// use burn_sfp_ndarray::Epilogue;
///
/// let bias = [0.5, -1.0]; // one value per output filter
/// let epilogue = Epilogue { shift: Some(&bias), relu: true, ..Epilogue::default() };
/// assert!(epilogue.scale.is_none());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// The factor of each output filter, `[O]`.
    pub scale: Option<&'a [f32]>,
    /// The value added to each output filter after the factor, `[O]`.
    pub shift: Option<&'a [f32]>,
    /// Whether negative results become zero (ReLU). NaN stays NaN.
    pub relu: bool,
    /// What larger results become, 6 for ReLU6. NaN stays NaN.
    pub most: Option<f32>,
}

impl Epilogue<'_> {
    /// Checks that scale and shift, where present, have one value per output filter.
    pub(crate) fn check(&self, outputs: usize) -> Result<(), KernelError> {
        expect_len("scales, one per output filter", outputs, self.scale.map_or(outputs, <[f32]>::len))?;
        expect_len("shifts, one per output filter", outputs, self.shift.map_or(outputs, <[f32]>::len))
    }
}

/// The epilogue of one output filter, broadcast to vectors.
#[derive(Clone, Copy)]
pub(crate) struct Stage<S: Simd> {
    scale: Option<S::f32s>,
    shift: Option<S::f32s>,
    relu: bool,
    most: Option<S::f32s>,
}

impl<S: Simd> Stage<S> {
    #[inline(always)]
    pub(crate) fn new(simd: S, epilogue: &Epilogue, output: usize) -> Self {
        Self {
            scale: epilogue.scale.map(|scale| simd.splat_f32s(scale[output])),
            shift: epilogue.shift.map(|shift| simd.splat_f32s(shift[output])),
            relu: epilogue.relu,
            most: epilogue.most.map(|most| simd.splat_f32s(most)),
        }
    }

    #[inline(always)]
    pub(crate) fn apply(&self, simd: S, sum: S::f32s) -> S::f32s {
        let sum = match (self.scale, self.shift) {
            (None, None) => sum,
            (Some(scale), None) => simd.mul_f32s(scale, sum),
            (None, Some(shift)) => simd.add_f32s(sum, shift),
            (Some(scale), Some(shift)) => mul_add(simd, scale, sum, shift),
        };
        self.rectify(simd, sum)
    }

    /// Applies the epilogue with `other` added before the activation.
    #[inline(always)]
    pub(crate) fn apply_with(&self, simd: S, sum: S::f32s, other: S::f32s) -> S::f32s {
        let plain = Self { relu: false, most: None, ..*self };
        self.rectify(simd, simd.add_f32s(plain.apply(simd, sum), other))
    }

    #[inline(always)]
    fn rectify(&self, simd: S, sum: S::f32s) -> S::f32s {
        let zero = simd.splat_f32s(0.0);
        let sum = if self.relu { simd.select_f32s(simd.less_than_f32s(sum, zero), zero, sum) } else { sum };
        match self.most {
            Some(most) => simd.select_f32s(simd.less_than_f32s(most, sum), most, sum),
            None => sum,
        }
    }
}
