//! Dense convolutions by packed kernels, with gradients.
//!
//! | what | where |
//! | --- | --- |
//! | the convolution and its conditions | [`conv2d`] |
//! | the kernels on tensors' memory | `host`, `gradients` |
//! | the operation of the autodiff graph | `autodiff` |

#[cfg(feature = "autodiff")]
mod autodiff;
#[cfg(feature = "autodiff")]
mod gradients;
mod host;

use burn::tensor::Tensor;
use burn_sfp_ndarray::ConvGeometry;

use crate::bodies::{Task, ran_on_host};

/// Convolves `x`, `[N, I, H, W]`, with `weight`, `[O, I, kh, kw]`, and adds `bias`, `[O]`, to `[N, O, H', W']`; with gradients where one of the
/// tensors has autodiff. `None` where another way is the better one: on devices other than flex and ndarray, for element types other than
/// `f32`, for more than one group, and for shapes that do not fit.
///
/// The algorithm follows from the shapes alone, and neither it nor the number of threads changes from run to run: same tensors, same bits.
/// Against sums in double precision the errors are those of [`winograd_conv2d`](burn_sfp_ndarray::winograd_conv2d).
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_nn::training::{ConvGeometry, conv2d};
///
/// let device = Device::flex().autodiff();
/// let x = Tensor::<4>::ones([2, 3, 8, 8], &device);
/// let weight = Tensor::<4>::ones([4, 3, 3, 3], &device).require_grad();
/// let y = conv2d(&x, &weight, None, &ConvGeometry::default()).expect("flex has the kernels");
/// assert_eq!(y.dims(), [2, 4, 6, 6]);
/// let gradients = y.sum().backward();
/// assert_eq!(weight.grad(&gradients).unwrap().into_data().iter::<f32>().next(), Some(72.0));
/// ```
pub fn conv2d(
    x: &Tensor<4>,
    weight: &Tensor<4>,
    bias: Option<&Tensor<1>>,
    geometry: &ConvGeometry,
) -> Option<Tensor<4>> {
    if geometry.groups != 1 {
        return None;
    }
    let with_gradients = [x.is_autodiff(), weight.is_autodiff(), bias.is_some_and(Tensor::is_autodiff)];
    if with_gradients.contains(&true) { tracked(x, weight, bias, geometry) } else { forward(x, weight, bias, geometry) }
}

#[cfg(feature = "autodiff")]
use autodiff::conv2d as tracked;

/// Without the feature `autodiff` there are no gradients here.
#[cfg(not(feature = "autodiff"))]
fn tracked(_: &Tensor<4>, _: &Tensor<4>, _: Option<&Tensor<1>>, _: &ConvGeometry) -> Option<Tensor<4>> {
    None
}

/// Convolves tensors without autodiff.
fn forward(x: &Tensor<4>, weight: &Tensor<4>, bias: Option<&Tensor<1>>, geometry: &ConvGeometry) -> Option<Tensor<4>> {
    ran_on_host(Task::DenseForward, host::forward(x, weight, bias, geometry))
}
