//! Analysis, pruning and recovery on a device that another process hosts.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::prelude::*;
use burn::remote::{EndpointId, IrohHost, IrohRelays, RemoteHost};
use burn::tensor::activation::relu;
use burn_sfp::core::{LayerAnalysis, Seconds, hosted};
use burn_sfp::nn::bodies::{Body, Task, runs};
use burn_sfp::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::ChildServer;

/// An `sfp-server`.
struct Server(ChildServer);

impl Server {
    fn start(arguments: &[&str]) -> Self {
        Self::listening("127.0.0.1:0", arguments)
    }

    fn listening(on: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sfp-server"));
        Self(ChildServer::start(command.args(["--listen", on]).args(arguments)).expect("the server starts"))
    }

    fn address(&self) -> &str {
        self.0.address()
    }

    fn host(&self) -> RemoteHost {
        RemoteHost::websocket(self.address())
    }

    fn kill(&mut self) {
        self.0.kill();
    }
}

#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    conv: Conv2d,
    classifier: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            stem: Conv2dConfig::new([2, 8], [3, 3]).init(device),
            norm: BatchNormConfig::new(8).init(device),
            conv: Conv2dConfig::new([8, 6], [3, 3]).init(device),
            classifier: LinearConfig::new(6 * 4 * 4, 3).init(device),
        }
    }
}

impl GraphModule for Net {
    type Inputs = Tensor<4>;
    type Outputs = Tensor<2>;

    fn run(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.stem.forward(x)));
        self.classifier.forward(relu(self.conv.forward(x)).flatten(1, 3))
    }
}

/// Samples that differ by a fixed pattern.
fn data(device: &Device) -> TensorCalibration<Tensor<4>> {
    let values: Vec<f32> = (0..12 * 2 * 8 * 8).map(|k| ((k * 7919) % 101) as f32 / 101.0 - 0.5).collect();
    let images = Tensor::<1>::from_floats(values.as_slice(), device).reshape([12, 2, 8, 8]);
    TensorCalibration::new(images, (0..12).map(|k| k % 3).collect(), 5)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-4 * largest), "{found:?} {expected:?}");
}

#[test]
fn an_analysis_is_that_of_this_machine() {
    let (server, local) = (Server::start(&[]), Device::flex());
    let remote = Device::remote_options(&server.host()).init().unwrap();
    let net = Net::new(&local);
    let here = analyze(&net, &data(&local), &AnalyzeConfig::new()).unwrap();
    let there = analyze(&net.valid().fork(&remote), &data(&remote), &AnalyzeConfig::new()).unwrap();
    assert_alike(&there, &here);
}

/// The analysis of a device, but for its seconds.
fn whole(net: &Net, device: &Device, grid: Grid) -> String {
    let config =
        AnalyzeConfig::new().with_accuracy(true).with_readout(Readout::Ridge { strength: 0.1 }).with_grid(grid);
    let mut analysis = analyze(&net.valid().fork(device), &data(device), &config).unwrap();
    analysis.seconds = Seconds::default();
    serde_json::to_string(&analysis).unwrap()
}

#[test]
fn with_the_servers_kernels_it_is_so_bit_for_bit() {
    let (server, local) = (Server::start(&[]), Device::flex());
    let remote = Device::remote_options(&server.host()).init().unwrap();
    let net = Net::new(&local);
    let count = |task| runs(task, Body::Hosted);
    hosted::enable(&remote).unwrap();
    hosted::enable(&remote).unwrap();
    for grid in [Grid::Full, Grid::default()] {
        let before = count(Task::ClassSums);
        assert_eq!(whole(&net, &remote, grid), whole(&net, &local, grid));
        assert!(count(Task::ClassSums) > before);
    }
    // Beside a device of this machine.
    let calibration = many();
    let alone = DevicePool::new([local.clone()]).chunk(2);
    let mixed = DevicePool::new([remote, local]).chunk(2);
    assert_eq!(analyzed_with(&net, &mixed, &calibration), analyzed_with(&net, &alone, &calibration));
}

/// The largest performances of each layer's filters.
fn assert_alike(found: &Analysis, expected: &Analysis) {
    assert_eq!((found.samples, found.layers.len()), (expected.samples, expected.layers.len()));
    for (found, expected) in found.layers.iter().zip(&expected.layers) {
        assert_eq!(found.path, expected.path);
        let largest =
            |layer: &LayerAnalysis| layer.performance.iter().map(|filter| filter.max as f32).collect::<Vec<_>>();
        assert_near(&largest(found), &largest(expected));
    }
}

#[test]
fn a_gpus_server_hosts_class_sums() {
    let server = Server::start(&["--device", "wgpu"]);
    if server.address().is_empty() {
        eprintln!("skipped: sfp-server was built without its feature wgpu");
        return;
    }
    let (remote, local) = (Device::remote_options(&server.host()).init().unwrap(), Device::flex());
    if Tensor::<1>::ones([1], &remote).try_into_data().is_err() {
        eprintln!("skipped: there is no wgpu adapter");
        return;
    }
    hosted::enable(&remote).unwrap();
    let (net, config) = (Net::new(&local), AnalyzeConfig::new());
    let before = runs(Task::ClassSums, Body::Hosted);
    let there = analyze(&net.valid().fork(&remote), &data(&remote), &config).unwrap();
    assert!(runs(Task::ClassSums, Body::Hosted) > before);
    assert_alike(&there, &analyze(&net, &data(&local), &config).unwrap());
}

#[test]
fn a_server_is_reached_over_iroh() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("server.key");
    let port = UdpSocket::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let server = Server::listening(&address, &["--iroh", key.to_str().unwrap(), "--relays", "disabled"]);
    let id: EndpointId = server.address().parse().unwrap();
    let host = IrohHost::new(id).with_relays(IrohRelays::Disabled).with_address(address.parse().unwrap());
    let remote = Device::remote_options(&RemoteHost::iroh(host)).init().unwrap();
    hosted::enable(&remote).unwrap();
    let (net, local) = (Net::new(&Device::flex()), Device::flex());
    assert_eq!(whole(&net, &remote, Grid::default()), whole(&net, &local, Grid::default()));
}

#[test]
fn a_server_without_kernels_says_so() {
    let server = Server::start(&["--plain"]);
    let remote = Device::remote_options(&server.host()).init().unwrap();
    let error = hosted::enable(&remote).unwrap_err();
    assert!(matches!(&error, SfpError::NoServerKernels { .. }), "{error:?}");
    hosted::enable(&Device::flex()).expect("a device of this machine has its own");
    // Who does not ask goes on without.
    let (server, net) = (Server::start(&["--plain"]), Net::new(&Device::flex()));
    let remote = Device::remote_options(&server.host()).init().unwrap();
    whole(&net, &remote, Grid::default());
}

#[test]
fn a_model_is_pruned_and_recovered_over_there() {
    let (server, local) = (Server::start(&[]), Device::flex());
    let remote = Device::remote_options(&server.host()).init().unwrap();
    let net = Net::new(&local);
    let policies: [fn() -> Box<dyn RankingPolicy>; 3] =
        [|| Box::new(SfpRanking::new()), || Box::new(Taylor::new()), || Box::new(ReconstructionError::new().greedy())];
    for policy in policies {
        let prune = |net: &Net, device: &Device| {
            let calibration = data(device);
            Pruner::new(&calibration).policy(policy()).analyze_and_prune(net).unwrap()
        };
        let (here, there) = (prune(&net, &local), prune(&net.valid().fork(&remote), &remote));
        assert_eq!(there.plan.cuts, here.plan.cuts);
        assert_eq!(there.model.devices(), std::slice::from_ref(&remote));
        let images = data(&local).batches().next().unwrap().unwrap().input;
        let found = values(there.model.run(images.clone().to_device(&remote)));
        assert_near(&found, &values(here.model.run(images)));
        // A pool of the same device beside one of this machine, for a model that is here.
        let calibration = data(&local);
        let pool = DevicePool::new([remote.clone(), local.clone()]).chunk(1);
        let mixed = Pruner::new(&calibration).policy(policy()).devices(pool).analyze_and_prune(&net).unwrap();
        assert_eq!(mixed.plan.cuts, here.plan.cuts);
        assert_eq!(net.devices(), std::slice::from_ref(&local), "the model has moved");
    }
}

#[test]
fn a_model_is_fine_tuned_over_there() {
    let (server, local) = (Server::start(&[]), Device::flex());
    let remote = Device::remote_options(&server.host()).init().unwrap();
    let (net, data) = (Net::new(&local), data(&local));
    let images = data.batches().next().unwrap().unwrap().input;
    let made = Planner::new().prune(&net, &images, &MagnitudeConnections::l1().layers(["conv"]).removing(0.5)).unwrap();
    let config = FineTuneConfig::new().with_epochs(2.0);
    let tuned = |model: Net| fine_tune(model, &made.plan, |_| data.batches(), 12, &config, &NoProgress).unwrap();
    let (here, there) = (tuned(made.model.clone()), tuned(made.model.valid().fork(&remote)));
    assert_eq!(there.devices(), std::slice::from_ref(&remote));
    let weight = |net: &Net| values(net.conv.weight.val());
    let (before, after) = (weight(&made.model), weight(&there));
    assert_near(&after, &weight(&here));
    let kept = |values: &[f32]| values.iter().map(|value| *value != 0.0).collect::<Vec<_>>();
    assert_eq!(kept(&after), kept(&before), "removed connections are held at zero");
    assert!(kept(&after).contains(&false) && after != before);
    assert_near(&values(there.run(images.clone().to_device(&remote))), &values(here.run(images.clone())));
}

#[test]
fn a_token_that_does_not_fit_is_refused_before_work_starts() {
    let server = Server::start(&["--token", "one"]);
    assert!(Device::remote_options(&server.host().with_credential("two")).init().is_err());
    assert!(Device::remote_options(&server.host().with_credential("one")).init().is_ok());
}

/// So many servers, and a pool of their devices.
fn pool(count: usize, chunk: usize) -> (Vec<Server>, DevicePool) {
    let servers: Vec<Server> = (0..count).map(|_| Server::start(&[])).collect();
    let devices = servers.iter().map(|server| Device::remote_options(&server.host()).init().unwrap());
    let pool = DevicePool::new(devices).chunk(chunk);
    (servers, pool)
}

/// [`analyzed`] on other data.
fn analyzed_with(net: &Net, pool: &DevicePool, data: &TensorCalibration<Tensor<4>>) -> String {
    let mut analysis = analyze_on(net, data, pool, &AnalyzeConfig::new(), &NoProgress).unwrap().1;
    analysis.seconds = Seconds::default();
    serde_json::to_string(&analysis).unwrap()
}

/// An analysis on a pool, bit for bit but for its seconds.
fn analyzed(net: &Net, pool: &DevicePool) -> Result<String, SfpError> {
    let config = AnalyzeConfig::new().with_accuracy(true);
    let mut analysis = analyze_on(net, &many(), pool, &config, &NoProgress)?.1;
    analysis.seconds = Seconds::default();
    Ok(serde_json::to_string(&analysis).unwrap())
}

/// More batches than `data`, of other sizes.
fn many() -> TensorCalibration<Tensor<4>> {
    let device = Device::flex();
    let values: Vec<f32> = (0..70 * 2 * 8 * 8).map(|k| ((k * 7919) % 1009) as f32 / 1009.0 - 0.5).collect();
    let images = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([70, 2, 8, 8]);
    TensorCalibration::new(images, (0..70).map(|k| k % 3).collect(), 3)
}

#[test]
fn one_two_and_four_servers_agree() {
    let net = Net::new(&Device::flex());
    let [one, two, four] = [1, 2, 4].map(|count| {
        let (_servers, pool) = pool(count, 2);
        analyzed(&net, &pool).unwrap()
    });
    assert_eq!(two, one);
    assert_eq!(four, one);
}

#[test]
fn servers_killed_at_twenty_moments() {
    let net = Net::new(&Device::flex());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (servers, first) = pool(4, 2);
    let clock = Instant::now();
    let expected = analyzed(&net, &first).unwrap();
    let whole = clock.elapsed();
    drop((servers, first));
    let (mut in_time, mut taken) = (0, Vec::new());
    for round in 0..20 {
        let (mut servers, pool) = pool(4, 2);
        let clock = Instant::now();
        let victims = rng.random_range(1..4);
        let after = whole.mul_f64(rng.random_range(0.0..0.8));
        let is_over = AtomicBool::new(false);
        let found = thread::scope(|scope| {
            let killer = scope.spawn(|| {
                thread::sleep(after);
                servers.iter_mut().take(victims).for_each(Server::kill);
                !is_over.load(Ordering::SeqCst)
            });
            let found = analyzed(&net, &pool);
            is_over.store(true, Ordering::SeqCst);
            in_time += usize::from(killer.join().unwrap());
            found
        });
        assert_eq!(found.unwrap(), expected, "round {round}: {victims} killed after {after:?} of {whole:?}");
        taken.push(clock.elapsed());
    }
    taken.sort_unstable();
    println!(
        "undisturbed {whole:?}; with kills median {:?}, longest {:?}",
        taken[taken.len() / 2],
        taken[taken.len() - 1]
    );
    assert!(in_time >= 10, "{in_time} of 20 kills while the analysis ran");
}

/// Kills a server after so many layers of a recovery.
struct KillAfter {
    layers: AtomicUsize,
    is_recovering: AtomicBool,
    victim: Mutex<Server>,
}

impl Progress for KillAfter {
    fn start(&self, stage: &str, _total: Option<usize>) {
        self.is_recovering.store(stage == "recovery", Ordering::SeqCst);
        self.advance(0);
    }
    fn advance(&self, by: usize) {
        let layers = self.layers.load(Ordering::SeqCst).saturating_sub(by);
        if self.is_recovering.load(Ordering::SeqCst) {
            self.layers.store(layers, Ordering::SeqCst);
            if layers == 0 {
                self.victim.lock().unwrap().kill();
            }
        }
    }
    fn finish(&self) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_server_killed_between_layers_of_a_recovery() {
    let net = Net::new(&Device::flex());
    let data = many();
    let first = data.batches().next().unwrap().unwrap().input;
    let made = Planner::new().prune(&net, &first, &Magnitude::l2()).unwrap();
    let recovered = |pool: &DevicePool, progress: &dyn Progress| {
        let found = recover_on(&net, &made.model, &made.plan, &data, &Recover::new(), pool, progress).unwrap();
        assert!(found.report.all_samples);
        (found.report.corrected.len(), values(found.model.run(first.clone())))
    };
    let (_servers, undisturbed) = pool(1, 3);
    let (corrected, expected) = recovered(&undisturbed, &NoProgress);
    let here = recover(&net, &made.model, &made.plan, &data, &Recover::new(), &NoProgress).unwrap();
    assert_near(&expected, &values(here.model.run(first.clone())));
    let mut kills = 0;
    loop {
        let (mut servers, pool) = pool(3, 3);
        let victim = Mutex::new(servers.remove(kills % 3));
        let progress = KillAfter { layers: kills.into(), is_recovering: false.into(), victim };
        assert_eq!(recovered(&pool, &progress), (corrected, expected.clone()), "killed after {kills} layers");
        if progress.layers.into_inner() > 0 {
            break;
        }
        kills += 1;
    }
    assert!(kills >= 2, "after each layer: {kills}");
}

#[test]
fn a_server_that_does_not_answer_is_left_out() {
    let net = Net::new(&Device::flex());
    let expected = {
        let (_servers, pool) = pool(1, 2);
        analyzed(&net, &pool).unwrap()
    };
    let (servers, pool) = pool(3, 2);
    if !servers[1].0.freeze() {
        return eprintln!("skipped: this system has no `kill -STOP`");
    }
    let limit = Duration::from_secs(5);
    let clock = Instant::now();
    assert_eq!(analyzed(&net, &pool.time_limit(limit)).unwrap(), expected);
    assert!(clock.elapsed() >= limit, "it was not waited for");
}

#[test]
fn all_servers_dead() {
    let net = Net::new(&Device::flex());
    let (servers, pool) = pool(2, 2);
    drop(servers);
    let error = analyzed(&net, &pool).unwrap_err();
    assert!(matches!(&error, SfpError::Devices { failures, samples: 0, .. } if failures.len() == 2), "{error:?}");
}
