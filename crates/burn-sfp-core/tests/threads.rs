//! Captures on many threads. Burn numbers capture devices with 16 bits for the whole process, so these tests have a process of their own.

use std::panic::catch_unwind;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_sfp_graph::{GraphError, GraphModule, Network};

#[derive(Module, Debug)]
struct Mlp {
    a: Linear,
    b: Linear,
}

impl GraphModule for Mlp {
    type Inputs = Tensor<2>;
    type Outputs = Tensor<2>;
    fn run(&self, x: Tensor<2>) -> Tensor<2> {
        assert!(x.dims()[0] < 3, "too many samples");
        self.b.forward(relu(self.a.forward(x)))
    }
}

fn capture(samples: usize) -> Result<usize, GraphError> {
    let device = Device::flex();
    let linear = |from, to| LinearConfig::new(from, to).init(&device);
    let network = Network::capture(&Mlp { a: linear(4, 6), b: linear(6, 3) }, &Tensor::zeros([samples, 4], &device))?;
    Ok(network.layers().len())
}

/// Each thread that captures used to take a number for good. Threads one after the other need one device together, also where captures
/// fail: once all numbers are used up, they still capture.
#[test]
fn threads_need_no_capture_device_each() {
    let on_a_thread = |samples| std::thread::spawn(move || capture(samples)).join().expect("no panic leaves a capture");
    for samples in [1, 2, 3, 1] {
        assert_eq!(on_a_thread(samples).is_ok(), samples < 3);
    }
    // All numbers that are left, as 65,536 threads would have taken them.
    std::panic::set_hook(Box::new(|_| {}));
    let taken = (0..=u32::from(u16::MAX)).take_while(|_| catch_unwind(Device::capture).is_ok()).count();
    let _ = std::panic::take_hook();
    assert!((65_000..65_536).contains(&taken), "{taken}");
    for samples in (0..500).map(|thread| 1 + thread % 2) {
        assert_eq!(on_a_thread(samples).expect("a capture"), 2);
    }
    assert!(matches!(on_a_thread(3), Err(GraphError::Forward { .. })));
    // At the same time, one of them gets the device, and others an error that says why.
    let threads: Vec<_> =
        (0..8).map(|_| std::thread::spawn(|| (0..20).map(|_| capture(1)).collect::<Vec<_>>())).collect();
    for result in threads.into_iter().flat_map(|thread| thread.join().expect("no panic leaves a capture")) {
        match result {
            Ok(layers) => assert_eq!(layers, 2),
            Err(error) => assert!(error.to_string().contains("no number left"), "{error}"),
        }
    }
    assert_eq!(capture(1).expect("a capture"), 2);
}
