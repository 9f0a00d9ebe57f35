//! The transforms of the minimal filtering algorithms F(2, 3) and F(4, 3), along one axis and along both.
//!
//! A transform evaluates polynomials at points and at infinity: 0, 1, -1 for F(2, 3), and 0, ±a, ±b for F(4, 3) with
//! a = 1 / √2 and b = √2. The paper uses a = 1 and b = 2; with the points here the errors are less than half as large,
//! since the transforms multiply by numbers of more equal size, and a² = 1/2, b² = 2, a² b² = 1 are exact.

use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};

use pulp::Simd;

use crate::vector::mul_add;

use super::lanes::Lanes;
use super::vectors::{Elements, Products, Results};

/// Runs a block for each place below a constant of at most six, without a loop: vectors of an array stay in registers
/// only where its places are constants.
macro_rules! unrolled {
    ($place:ident < $count:ident $body:block) => {
        unrolled!($place < $count $body 0 1 2 3 4 5)
    };
    ($place:ident < $count:ident $body:block $($number:literal)*) => {
        const { assert!($count <= 6) };
        $(if $number < $count {
            let $place = $number;
            $body
        })*
    };
}

/// The algorithm F(M, 3): M outputs from N = M + 2 inputs by N products.
pub(super) trait Transform<const N: usize, const M: usize> {
    /// Transforms the three weights of a row or column: `G g`.
    fn weights(g: [Lanes; 3]) -> [Lanes; N];

    /// Transforms inputs: `B^T d`.
    fn input<S: Simd>(simd: S, d: [S::f32s; N]) -> [S::f32s; N];

    /// Transforms products to outputs: `A^T m`.
    fn output<S: Simd>(simd: S, m: [S::f32s; N]) -> [S::f32s; M];

    /// Transforms the gradient of outputs to that of products: `A y`.
    fn output_gradient<S: Simd>(simd: S, y: [S::f32s; M]) -> [S::f32s; N];

    /// Transforms the gradient of transformed weights to that of the weights: `G^T u`.
    fn weights_gradient(u: [Lanes; N]) -> [Lanes; 3];
}

/// F(2, 3).
pub(super) struct Two;

impl Transform<4, 2> for Two {
    #[inline(always)]
    fn weights([g0, g1, g2]: [Lanes; 3]) -> [Lanes; 4] {
        [g0, (g0 + g1 + g2) * 0.5, (g0 - g1 + g2) * 0.5, g2]
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(d[0], d[2]), simd.add_f32s(d[1], d[2]), simd.sub_f32s(d[2], d[1]), simd.sub_f32s(d[3], d[1])]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
        let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
        [simd.add_f32s(m[0], sum), simd.add_f32s(difference, m[3])]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(simd: S, y: [S::f32s; 2]) -> [S::f32s; 4] {
        [y[0], simd.add_f32s(y[0], y[1]), simd.sub_f32s(y[0], y[1]), y[1]]
    }

    #[inline(always)]
    fn weights_gradient(u: [Lanes; 4]) -> [Lanes; 3] {
        let even = (u[1] + u[2]) * 0.5;
        [u[0] + even, (u[1] - u[2]) * 0.5, even + u[3]]
    }
}

/// F(4, 3).
pub(super) struct Four;

impl Transform<6, 4> for Four {
    #[inline(always)]
    fn weights([g0, g1, g2]: [Lanes; 3]) -> [Lanes; 6] {
        let (a, b) = (std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2);
        let (even, odd) = ((g0 + g2 * 0.5) * (1.0 / -1.5), g1 * (a / -1.5));
        let (more, rest) = ((g0 + g2 * 2.0) * (1.0 / 6.0), g1 * (b / 6.0));
        [g0, even + odd, even - odd, more + rest, more - rest, g2]
    }

    #[inline(always)]
    fn input<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
        let (a, b) = (simd.splat_f32s(FRAC_1_SQRT_2), simd.splat_f32s(SQRT_2));
        let (half, two) = (simd.splat_f32s(-0.5), simd.splat_f32s(-2.0));
        let both = simd.splat_f32s(-2.5);
        let (even, odd) = (mul_add(simd, two, d[2], d[4]), simd.mul_f32s(a, mul_add(simd, two, d[1], d[3])));
        let (more, rest) = (mul_add(simd, half, d[2], d[4]), simd.mul_f32s(b, mul_add(simd, half, d[1], d[3])));
        [
            simd.add_f32s(mul_add(simd, both, d[2], d[4]), d[0]),
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.add_f32s(more, rest),
            simd.sub_f32s(more, rest),
            simd.add_f32s(mul_add(simd, both, d[3], d[5]), d[1]),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
        let (a, b) = (simd.splat_f32s(FRAC_1_SQRT_2), simd.splat_f32s(SQRT_2));
        let (half, two) = (simd.splat_f32s(0.5), simd.splat_f32s(2.0));
        let (even, odd) = (simd.add_f32s(m[1], m[2]), simd.mul_f32s(a, simd.sub_f32s(m[1], m[2])));
        let (more, rest) = (simd.add_f32s(m[3], m[4]), simd.mul_f32s(b, simd.sub_f32s(m[3], m[4])));
        [
            simd.add_f32s(simd.add_f32s(m[0], even), more),
            simd.add_f32s(odd, rest),
            mul_add(simd, half, even, simd.mul_f32s(two, more)),
            mul_add(simd, half, odd, mul_add(simd, two, rest, m[5])),
        ]
    }

    #[inline(always)]
    fn output_gradient<S: Simd>(simd: S, y: [S::f32s; 4]) -> [S::f32s; 6] {
        let (a, b) = (simd.splat_f32s(FRAC_1_SQRT_2), simd.splat_f32s(SQRT_2));
        let (half, two) = (simd.splat_f32s(0.5), simd.splat_f32s(2.0));
        let (even, odd) = (mul_add(simd, half, y[2], y[0]), simd.mul_f32s(a, mul_add(simd, half, y[3], y[1])));
        let (more, rest) = (mul_add(simd, two, y[2], y[0]), simd.mul_f32s(b, mul_add(simd, two, y[3], y[1])));
        [
            y[0],
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.add_f32s(more, rest),
            simd.sub_f32s(more, rest),
            y[3],
        ]
    }

    #[inline(always)]
    fn weights_gradient(u: [Lanes; 6]) -> [Lanes; 3] {
        let (a, b) = (std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2);
        let (even, odd) = ((u[1] + u[2]) * (1.0 / -1.5), (u[1] - u[2]) * (a / -1.5));
        let (more, rest) = ((u[3] + u[4]) * (1.0 / 6.0), (u[3] - u[4]) * (b / 6.0));
        [u[0] + even + more, odd + rest, even * 0.5 + more * 2.0 + u[5]]
    }
}

/// Transforms kernels of three rows along both axes: `G g G^T`, row-major.
#[inline(always)]
pub(super) fn weights<X: Transform<N, M>, const N: usize, const M: usize>(g: [[Lanes; 3]; 3]) -> [[Lanes; N]; N] {
    let rows = [X::weights(g[0]), X::weights(g[1]), X::weights(g[2])];
    let mut all = [[Lanes::ZERO; N]; N];
    for column in 0..N {
        let transformed = X::weights([rows[0][column], rows[1][column], rows[2][column]]);
        for row in 0..N {
            all[row][column] = transformed[row];
        }
    }
    all
}

/// Transforms one vector of tiles along both axes: `B^T d B`.
#[inline(always)]
pub(super) fn input<S: Simd, X: Transform<N, M>, const N: usize, const M: usize>(
    simd: S,
    from: Elements<N>,
    mut to: Results<N>,
) {
    let mut half = [[simd.splat_f32s(0.0); N]; N];
    unrolled!(column < N {
        let transformed = X::input(simd, from.column(simd, column));
        for row in 0..N {
            half[row][column] = transformed[row];
        }
    });
    unrolled!(row < N {
        to.set::<S>(row, X::input(simd, half[row]));
    });
}

/// Transforms the products of one vector of tiles to outputs along both axes: `A^T m A`.
#[inline(always)]
pub(super) fn output<S: Simd, X: Transform<N, M>, const N: usize, const M: usize>(
    simd: S,
    from: Products<N>,
    mut to: Results<M>,
) {
    let mut half = [[simd.splat_f32s(0.0); N]; M];
    unrolled!(column < N {
        let transformed = X::output(simd, from.column(simd, column));
        for row in 0..M {
            half[row][column] = transformed[row];
        }
    });
    unrolled!(row < M {
        to.set::<S>(row, X::output(simd, half[row]));
    });
}

/// Transforms the gradients of the outputs of one vector of tiles to those of the products along both axes: `A y A^T`.
#[inline(always)]
pub(super) fn output_gradient<S: Simd, X: Transform<N, M>, const N: usize, const M: usize>(
    simd: S,
    from: Elements<M>,
    mut to: Results<N>,
) {
    let mut half = [[simd.splat_f32s(0.0); M]; N];
    unrolled!(column < M {
        let transformed = X::output_gradient(simd, from.column(simd, column));
        for row in 0..N {
            half[row][column] = transformed[row];
        }
    });
    unrolled!(row < N {
        to.set::<S>(row, X::output_gradient(simd, half[row]));
    });
}

/// Transforms the gradients of transformed kernels to those of the kernels, both row-major: `G^T u G`.
#[inline(always)]
pub(super) fn weights_gradient<X: Transform<N, M>, const N: usize, const M: usize>(
    u: [[Lanes; N]; N],
) -> [[Lanes; 3]; 3] {
    let mut half = [[Lanes::ZERO; N]; 3];
    for row in 0..N {
        let transformed = X::weights_gradient(u[row]);
        for column in 0..3 {
            half[column][row] = transformed[column];
        }
    }
    let columns = [X::weights_gradient(half[0]), X::weights_gradient(half[1]), X::weights_gradient(half[2])];
    let mut all = [[Lanes::ZERO; 3]; 3];
    for row in 0..3 {
        for column in 0..3 {
            all[row][column] = columns[column][row];
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;
    use crate::packed::winograd::lanes::LANES;

    /// Asserts that the transforms compute the outputs of three weights along one axis.
    fn check<X: Transform<N, M>, const N: usize, const M: usize>() {
        let simd = Scalar::new();
        let g = [0.3, -1.25, 2.0];
        let mut d = [0.0_f32; N];
        d.iter_mut().enumerate().for_each(|(place, d)| *d = 0.5 + 0.75 * (place * place % 5) as f32);
        let u = X::weights(g.map(|g| Lanes([g; LANES]))).map(|u| u.0[0]);
        let mut m = X::input(simd, d);
        m.iter_mut().zip(u).for_each(|(m, u)| *m *= u as f32);
        for (place, y) in X::output(simd, m).into_iter().enumerate() {
            let expected: f64 = g.iter().zip(&d[place..]).map(|(g, &d)| g * f64::from(d)).sum();
            assert!((f64::from(y) - expected).abs() < 1e-5, "{place}: {y} {expected}");
        }
        // The gradients are the transposed transforms.
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let single = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
        let mut y = [0.0_f32; M];
        y.iter_mut().enumerate().for_each(|(place, y)| *y = 1.5 - (place * place % 3) as f32);
        let products = single(&X::output_gradient(simd, y));
        assert!((dot(&single(&y), &single(&X::output(simd, m))) - dot(&products, &single(&m))).abs() < 1e-4);
        let back = X::weights_gradient(u.map(|u| Lanes([u; LANES]))).map(|g| g.0[LANES - 1]);
        assert!((dot(&back, &g) - dot(&u, &u)).abs() < 1e-12);
    }

    #[test]
    fn one_axis() {
        check::<Two, 4, 2>();
        check::<Four, 6, 4>();
    }
}
