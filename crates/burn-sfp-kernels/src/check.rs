//! Argument checks that both kernel crates make before they compute anything.

use crate::KernelError;

/// Checks that a length is the expected one.
///
/// # Errors
/// [`KernelError::Shape`] with `what` when `found` differs from `expected`.
///
/// # Example
/// ```
/// use burn_sfp_kernels::{KernelError, expect_len};
///
/// assert_eq!(expect_len("labels, one per sample", 3, 3), Ok(()));
/// assert!(matches!(expect_len("labels, one per sample", 3, 2), Err(KernelError::Shape { found: 2, .. })));
/// ```
pub fn expect_len(what: &'static str, expected: usize, found: usize) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Shape { what, expected, found }) }
}

/// Checks that a batch has one label per sample and that every label is below the number of classes.
///
/// # Errors
/// [`KernelError::Shape`] for a wrong number of labels, [`KernelError::Label`] for the first label that is not
/// below `classes`.
///
/// # Example
/// ```
/// use burn_sfp_kernels::{KernelError, expect_labels};
///
/// assert_eq!(expect_labels(&[0, 2, 1], 3, 3), Ok(()));
/// assert_eq!(expect_labels(&[0, 2], 2, 2), Err(KernelError::Label { index: 1, label: 2, classes: 2 }));
/// ```
pub fn expect_labels(labels: &[usize], samples: usize, classes: usize) -> Result<(), KernelError> {
    expect_len("labels, one per sample", samples, labels.len())?;
    match labels.iter().position(|&label| label >= classes) {
        Some(index) => Err(KernelError::Label { index, label: labels[index], classes }),
        None => Ok(()),
    }
}

/// Checks that a readout `[F, S, C]` fits class means `[C, F, S]`.
///
/// # Errors
/// [`KernelError::Shape`] for the first axis of the readout that differs.
///
/// # Example
/// ```
/// use burn_sfp_kernels::expect_readout;
///
/// assert!(expect_readout([10, 64, 4], [64, 4, 10]).is_ok());
/// assert!(expect_readout([10, 64, 4], [64, 1, 10]).is_err());
/// ```
pub fn expect_readout(means: [usize; 3], readout: [usize; 3]) -> Result<(), KernelError> {
    let [classes, filters, positions] = means;
    expect_len("filters of the readout", filters, readout[0])?;
    expect_len("positions of the readout", positions, readout[1])?;
    expect_len("classes of the readout", classes, readout[2])
}

/// Checks that the gradient with respect to a convolution's output has the shape of that output, `[N, O, H, W]`.
///
/// # Errors
/// [`KernelError::Shape`] for the first axis that differs.
///
/// # Example
/// ```
/// use burn_sfp_kernels::expect_gradient;
///
/// assert!(expect_gradient([2, 8, 4, 4], [2, 8, 4, 4]).is_ok());
/// assert!(expect_gradient([2, 8, 4, 4], [2, 8, 4, 5]).is_err());
/// ```
pub fn expect_gradient(output: [usize; 4], gradient: [usize; 4]) -> Result<(), KernelError> {
    let names =
        ["samples of the gradient", "filters of the gradient", "rows of the gradient", "columns of the gradient"];
    (names.into_iter().zip(output.into_iter().zip(gradient)))
        .try_for_each(|(name, (expected, found))| expect_len(name, expected, found))
}

/// Checks that a threshold is finite.
///
/// # Errors
/// [`KernelError::Threshold`] for an infinite threshold or NaN.
///
/// # Example
/// ```
/// use burn_sfp_kernels::expect_threshold;
///
/// assert!(expect_threshold(0.3).is_ok());
/// assert!(expect_threshold(f64::NAN).is_err());
/// ```
pub fn expect_threshold(threshold: f64) -> Result<(), KernelError> {
    if threshold.is_finite() { Ok(()) } else { Err(KernelError::Threshold { found: threshold }) }
}
