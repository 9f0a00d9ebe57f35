//! Helpers of the vectorized kernels: the size of vectors of the instruction set, and aligned memory.

use pulp::{Arch, Simd, WithSimd};

/// Bytes of a cache line, which is also the widest vector; a vector that crosses two lines takes two reads.
const LINE: usize = 64;

/// The size and number of the vector registers of an instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vectors {
    /// Single precision elements of a vector.
    pub(crate) lanes: usize,
    /// Number of vector registers.
    pub(crate) registers: usize,
}

impl Vectors {
    /// Returns the sizes for `arch`.
    pub(crate) fn of(arch: Arch) -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = Vectors;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Vectors {
                Vectors { lanes: S::F32_LANES, registers: S::REGISTER_COUNT }
            }
        }
        arch.dispatch(Ask)
    }
}

/// Returns `a * b + c`, fused if the instruction set supports it.
#[inline(always)]
pub(crate) fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    // A fused operation emulated in software takes a hundred times as long.
    if S::IS_SCALAR { simd.add_f32s(simd.mul_f32s(a, b), c) } else { simd.mul_add_f32s(a, b, c) }
}

/// A buffer whose elements start at a cache line. The default one is empty and has no memory.
#[derive(Default)]
pub(crate) struct Aligned {
    memory: Vec<f32>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// Creates a buffer of `length` zeros.
    pub(crate) fn zeros(length: usize) -> Self {
        let memory = vec![0.0_f32; length + LINE / size_of::<f32>()];
        let start = memory.as_ptr().align_offset(LINE).min(LINE / size_of::<f32>());
        Self { memory, start, length }
    }

    /// Makes the buffer at least `length` long; what it held is lost where it grows.
    pub(crate) fn reserve(&mut self, length: usize) {
        if length > self.length {
            *self = Self::zeros(length);
        }
    }

    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.memory[self.start..][..self.length]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..][..self.length]
    }
}

/// Returns every instruction set of this machine, starting with the scalar one.
#[cfg(test)]
pub(crate) fn instruction_sets() -> Vec<Arch> {
    let mut all = vec![Arch::Scalar];
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    all.extend(pulp::x86::V3::try_new().map(Arch::V3));
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    all.extend(pulp::x86::V4::try_new().map(Arch::V4));
    #[cfg(target_arch = "aarch64")]
    all.push(Arch::new());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_starts_at_a_cache_line() {
        for length in [0, 1, 100] {
            let mut memory = Aligned::zeros(length);
            assert_eq!(memory.as_slice().as_ptr().align_offset(LINE), 0);
            assert_eq!(memory.as_mut_slice(), vec![0.0; length]);
        }
    }

    #[test]
    fn the_scalar_set_has_one_lane() {
        assert_eq!(Vectors::of(Arch::Scalar).lanes, 1);
        for arch in instruction_sets() {
            assert!(Vectors::of(arch).lanes.is_power_of_two() && Vectors::of(arch).registers >= 16);
        }
    }
}
