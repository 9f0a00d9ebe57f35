//! Forward passes for inference over PyTorch's of the same network on the same cores, in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use burn::tensor::{Device, Distribution, Tensor};
use burn_sfp::graph::Way;
use burn_sfp::graph::latency::{fetch, forward};
use burn_sfp::prelude::{Budget, GraphModule, Inference, Magnitude, Planner};
use models::mobilenet::MobileNetV2Config;
use models::random::randomise;
use models::resnet::ResNetConfig;

use crate::measure::{Kind, Pairs, Row, Unit, steady};
use crate::subject::Session;
use crate::{Bench, Result};

/// What all rows measure.
const ABOUT: &str = "forward pass for inference (`Inference`, flex) over PyTorch's, eager, the faster of its two layouts, on the same cores in turn; at \
                     least as fast on one image, at least 0.8 times as fast on 64; each measurement is the median of five passes after one that does \
                     not count, since idle threads of the other process spin for a while, and its weights are in the caches";
/// Passes of a measurement.
const PASSES: usize = 5;
/// How long the threads of the other process may take to come to rest.
const REST: Duration = Duration::from_millis(20);

/// The rows.
pub const ROWS: &[Bench] = &[
    Bench { name: "peer_vgg11_whole_b1", about: ABOUT, run: |session| vgg11(session, "peer_vgg11_whole_b1", 1) },
    Bench { name: "peer_vgg11_whole_b64", about: ABOUT, run: |session| vgg11(session, "peer_vgg11_whole_b64", 64) },
    Bench {
        name: "peer_resnet18_whole_b1",
        about: ABOUT,
        run: |session| resnet18(session, "peer_resnet18_whole_b1", 1.0, 1, 224),
    },
    Bench {
        name: "peer_resnet18_half_b1",
        about: ABOUT,
        run: |session| resnet18(session, "peer_resnet18_half_b1", 0.5, 1, 224),
    },
    Bench {
        name: "peer_resnet18_half_b64",
        about: ABOUT,
        run: |session| resnet18(session, "peer_resnet18_half_b64", 0.5, 64, 112),
    },
    Bench { name: "peer_resnet50_half_b1", about: ABOUT, run: resnet50 },
    Bench { name: "peer_mobilenetv2_b1", about: ABOUT, run: mobilenet },
];

fn vgg11(session: &Session, row: &'static str, samples: usize) -> Result<Row> {
    let case = Case { row, network: "vgg11", share: 1.0, samples, side: 32 };
    case.measure(session, session.subject()?.model())
}

fn resnet18(session: &Session, row: &'static str, share: f64, samples: usize, side: usize) -> Result<Row> {
    let case = Case { row, network: "resnet18", share, samples, side };
    case.pruned(session, randomise(&ResNetConfig::resnet18().init(&Device::flex()), 0))
}

fn resnet50(session: &Session) -> Result<Row> {
    let case = Case { row: "peer_resnet50_half_b1", network: "resnet50", share: 0.5, samples: 1, side: 224 };
    case.pruned(session, randomise(&ResNetConfig::resnet50().init(&Device::flex()), 0))
}

fn mobilenet(session: &Session) -> Result<Row> {
    let case = Case { row: "peer_mobilenetv2_b1", network: "mobilenet_v2", share: 1.0, samples: 1, side: 224 };
    case.pruned(session, randomise(&MobileNetV2Config::mobilenet_v2().init(&Device::flex()), 0))
}

/// A network at a share of every layer's channels, on a batch.
struct Case {
    row: &'static str,
    network: &'static str,
    share: f64,
    samples: usize,
    side: usize,
}

impl Case {
    fn images(&self) -> Tensor<4> {
        let shape = [self.samples, 3, self.side, self.side];
        Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::flex())
    }

    /// Prunes to the share first.
    fn pruned<M>(&self, session: &Session, whole: M) -> Result<Row>
    where
        M: GraphModule<Inputs = Tensor<4>, Outputs = Tensor<2>>,
    {
        if self.share == 1.0 {
            return self.measure(session, &whole);
        }
        let budget = Budget::PerLayer(1.0 - self.share);
        let smaller = Planner::new().budget(budget).prune(&whole, &self.images(), &Magnitude::l2())?;
        self.measure(session, &smaller.model)
    }

    fn measure<M>(&self, session: &Session, model: &M) -> Result<Row>
    where
        M: GraphModule<Inputs = Tensor<4>, Outputs = Tensor<2>>,
    {
        let images = self.images();
        let mut fast = Inference::new(model, &images)?;
        let layers = &fast.choices().layers;
        let running = |way| layers.iter().filter(|layer| layer.way == way).count();
        let (packed, winograd, layers) = (running(Way::Packed), running(Way::Winograd), layers.len());
        let outside = outside(&mut fast, &images)?;
        let mut ours = || {
            passes(|| {
                fetch(&fast.run(images.clone())?.into_data());
                Ok(())
            })
        };
        let burn = || passes(|| Ok(forward(model, &images)?));
        let what = format!(
            "{} at {} of each layer's channels, {} images of {side}x{side}, flex, {packed} of {layers} layers on packed and {winograd} on transformed weights, {outside}",
            self.network,
            self.share,
            self.samples,
            side = self.side
        );
        match Peer::start(self) {
            Ok(mut peer) => {
                let burns = Pairs::in_turn(session.pairs, &mut ours, burn)?;
                let over_burn = burns.row(self.row, Kind::Speedup, Unit::Seconds, String::new()).ratio;
                let pairs = Pairs::in_turn(session.pairs, ours, || peer.pass())?;
                let wanted = if self.samples == 1 { 1.0 } else { 0.8 };
                let note = format!(
                    "{what}, against PyTorch {} (the faster layout of each pass); wanted: {wanted}; over Burn's own pass, in turn: {over_burn:.2}",
                    peer.version
                );
                Ok(pairs.row(self.row, Kind::Speedup, Unit::Seconds, note))
            }
            Err(reason) => {
                let note = format!("{what}, against Burn's own pass, because there is no PyTorch here: {reason}");
                Ok(Pairs::in_turn(session.pairs, ours, burn)?.row(self.row, Kind::Speedup, Unit::Seconds, note))
            }
        }
    }
}

/// Seconds of a pass when nothing else runs.
fn passes(pass: impl FnMut() -> Result<()>) -> Result<f64> {
    std::thread::sleep(REST);
    steady(PASSES, pass)
}

/// Which share of a pass goes where no layer is, and into what.
fn outside<M: GraphModule<Inputs = Tensor<4>>>(fast: &mut Inference<M>, images: &Tensor<4>) -> Result<String> {
    let layers: BTreeSet<String> = fast.choices().layers.iter().map(|layer| layer.layer.clone()).collect();
    let (mut all, mut outside) = (0.0, BTreeMap::<String, f64>::new());
    for _ in 0..5 {
        for (step, seconds) in fast.profile(images.clone())? {
            all += seconds;
            if !layers.contains(&step) {
                *outside.entry(step).or_default() += seconds;
            }
        }
    }
    let mut outside: Vec<(String, f64)> = outside.into_iter().map(|(step, seconds)| (step, seconds / all)).collect();
    outside.sort_by(|a, b| b.1.total_cmp(&a.1));
    let sum: f64 = outside.iter().map(|(_, share)| share).sum();
    let most = outside.iter().take(3).map(|(step, share)| format!("{step} {:.0} %", 100.0 * share));
    Ok(format!("{:.0} % of the time outside of layers ({})", 100.0 * sum, most.collect::<Vec<_>>().join(", ")))
}

/// A process that times PyTorch.
struct Peer {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    version: String,
}

impl Peer {
    /// The reason is why there is none.
    fn start(case: &Case) -> std::result::Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer/peer.py");
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        let mut child = Command::new(python)
            .arg(script)
            .args([case.network.to_string(), case.share.to_string(), case.samples.to_string(), case.side.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("Python cannot be started ({error})"))?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("Python has no pipes".into());
        };
        let mut peer = Self { child, ask, answers: BufReader::new(answers), version: String::new() };
        let first = peer.line()?;
        peer.version = match first.split_once(' ') {
            Some((version, threads)) => format!("{version}, {threads} threads"),
            None => return Err("Python has no module `torch`".into()),
        };
        Ok(peer)
    }

    fn line(&mut self) -> std::result::Result<String, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| error.to_string())?;
        Ok(line.trim().to_string())
    }

    /// Seconds of a pass in the faster layout.
    fn pass(&mut self) -> Result<f64> {
        std::thread::sleep(REST);
        writeln!(self.ask, "{PASSES}")?;
        self.ask.flush()?;
        let line = self.line()?;
        let seconds = line.split(' ').map(str::parse::<f64>).collect::<std::result::Result<Vec<f64>, _>>()?;
        Ok(seconds.into_iter().fold(f64::INFINITY, f64::min))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends at the end of its input in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
