//! Bytes of parameters, and reading what a device computed.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

/// Reads every byte of a tensor's data. A device may copy the data to the host only then (wgpu does, where it is large), and work until
/// then.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_sfp_graph::latency::fetch;
///
/// let started = std::time::Instant::now();
/// fetch(&Tensor::<2>::ones([64, 64], &Device::flex()).into_data());
/// println!("{:?}", started.elapsed());
/// ```
pub fn fetch(data: &TensorData) {
    std::hint::black_box(data.as_bytes().iter().fold(0_u8, |all, byte| all ^ byte));
}

/// Returns the bytes of all parameters and running statistics of a module, connection masks included.
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_sfp_graph::latency::parameter_bytes;
///
/// assert_eq!(parameter_bytes(&LinearConfig::new(4, 3).init(&Device::flex())), 4 * (4 * 3 + 3));
/// ```
pub fn parameter_bytes<M: Module>(model: &M) -> u64 {
    struct Count(u64);
    impl Count {
        fn add(&mut self, dtype: DType, elements: usize) {
            self.0 += (elements * dtype.size()) as u64;
        }
    }
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = param.base();
            match tensor.dtype() {
                // Several elements share a byte, and each block has a scale.
                DType::QFloat(_) => self.0 += tensor.try_into_data().map_or(0, |data| data.as_bytes().len() as u64),
                dtype => self.add(dtype, tensor.shape().num_elements()),
            }
        }
        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.add(param.base().dtype(), param.base().shape().num_elements());
        }
        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            self.add(param.base().dtype(), param.base().shape().num_elements());
        }
    }
    let mut count = Count(0);
    model.visit(&mut count);
    count.0
}
