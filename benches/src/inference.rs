//! Pruned networks against the whole ones where both run by [`Inference`].

use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::graph::Cost;
use burn_sfp::graph::latency::fetch;
use burn_sfp::prelude::*;
use models::random::randomise;
use models::resnet::ResNetConfig;
use vgg11_cifar100::cifar::SIDE;

use crate::measure::{Kind, Pairs, Row, Unit, steady};
use crate::subject::Session;
use crate::{Bench, Result, afcc};

/// What the rows measure.
const ABOUT: &str = "forward pass for inference (`Inference`) of a network over that of the same one pruned; at least 0.9 times the ratio of \
                     multiply-adds";

/// What those without minimal filtering measure.
const BY_FORMULA: &str =
    "the same without minimal filtering, so that both networks compute as many multiply-adds as the formula has";

/// The rows.
pub const ROWS: &[Bench] = &[
    Bench {
        name: "inference_resnet18_half_b1",
        about: ABOUT,
        run: |session| resnet(session, "inference_resnet18_half_b1", 1, 224, true),
    },
    Bench {
        name: "inference_resnet18_half_b64",
        about: ABOUT,
        run: |session| resnet(session, "inference_resnet18_half_b64", 64, 112, true),
    },
    Bench {
        name: "inference_vgg11_afcc90_b1",
        about: ABOUT,
        run: |session| vgg(session, "inference_vgg11_afcc90_b1", 1, true),
    },
    Bench {
        name: "inference_vgg11_afcc90_b64",
        about: ABOUT,
        run: |session| vgg(session, "inference_vgg11_afcc90_b64", 64, true),
    },
    Bench {
        name: "packed_resnet18_half_b1",
        about: BY_FORMULA,
        run: |session| resnet(session, "packed_resnet18_half_b1", 1, 224, false),
    },
    Bench {
        name: "packed_resnet18_half_b64",
        about: BY_FORMULA,
        run: |session| resnet(session, "packed_resnet18_half_b64", 64, 112, false),
    },
    Bench {
        name: "packed_vgg11_afcc90_b1",
        about: BY_FORMULA,
        run: |session| vgg(session, "packed_vgg11_afcc90_b1", 1, false),
    },
    Bench {
        name: "packed_vgg11_afcc90_b64",
        about: BY_FORMULA,
        run: |session| vgg(session, "packed_vgg11_afcc90_b64", 64, false),
    },
];

fn images(samples: usize, side: usize) -> Tensor<4> {
    Tensor::random([samples, 3, side, side], Distribution::Uniform(-1.0, 1.0), &Device::flex())
}

fn resnet(session: &Session, name: &'static str, samples: usize, side: usize, winograd: bool) -> Result<Row> {
    let whole = randomise(&ResNetConfig::resnet18().init(&Device::flex()), 0);
    let images = images(samples, side);
    let half = Planner::new().budget(Budget::PerLayer(0.5)).prune(&whole, &images, &Magnitude::l2())?;
    measure(
        session,
        name,
        [&whole, &half.model],
        &images,
        "ResNet-18, half of each layer's channels against the whole one",
        winograd,
    )
}

fn vgg(session: &Session, name: &'static str, samples: usize, winograd: bool) -> Result<Row> {
    let images = images(samples, SIDE);
    let masked = afcc::masked(session)?;
    let sparse = sparsify(&masked.model, &images, &SparseConfig::new())?;
    let what = format!(
        "VGG-11 without {:.1} % of the connections of its last four convolutions (AFCC) against the whole one",
        100.0 * masked.gone
    );
    measure(session, name, [session.subject()?.model(), &sparse.model], &images, &what, winograd)
}

fn measure<M>(
    session: &Session,
    name: &'static str,
    models: [&M; 2],
    images: &Tensor<4>,
    what: &str,
    winograd: bool,
) -> Result<Row>
where
    M: GraphModule<Inputs = Tensor<4>, Outputs = Tensor<2>>,
{
    let [whole_macs, macs] = models.map(|model| Cost::of(model, images).map(|cost| cost.macs as f64));
    let (whole_macs, macs) = (whole_macs?, macs?);
    let config = InferenceConfig::new().winograd(winograd);
    let [whole, smaller] = models.map(|model| Inference::with_config(model, images, &config));
    let (mut whole, mut smaller) = (whole?, smaller?);
    // Long enough that a pass finds its own weights in the caches, not those of the other network.
    let passes = if images.dims()[0] == 1 { 25 } else { 5 };
    let pass = |fast: &mut Inference<M>| {
        steady(passes, || {
            fetch(&fast.run(images.clone())?.into_data());
            Ok(())
        })
    };
    let pairs = Pairs::in_turn(session.pairs, || pass(&mut smaller), || pass(&mut whole))?;
    let row = pairs.row(name, Kind::Speedup, Unit::Seconds, String::new());
    let ratio = whole_macs / macs;
    let note = format!(
        "{what}, {} images of {side}x{side}, flex, medians of {passes} passes in a row; {:.1} M multiply-adds an image against {:.1} M, a ratio of {ratio:.2}; \
         wanted: {:.2} (0.9 of it)",
        images.dims()[0],
        1e-6 * macs,
        1e-6 * whole_macs,
        0.9 * ratio,
        side = images.dims()[2]
    );
    Ok(Row { note, ..row })
}
