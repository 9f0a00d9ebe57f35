//! The analysis on a device that another process hosts, over loopback.

use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;

use burn::module::Module;
use burn::remote::RemoteHost;
use burn::server::WebSocketTransport;
use burn::tensor::{Device, Tensor};
use burn_sfp::core::hosted;
use burn_sfp::prelude::*;
use support::ChildServer;
use vgg11_cifar100::cifar::{PIXELS, SIDE};

use crate::measure::{Kind, Pairs, Row, Unit};
use crate::subject::{BATCH, IMAGES, Session, Subject};
use crate::{Bench, Result};

/// The rows.
pub const ROWS: &[Bench] = &[
    Bench {
        name: "remote_vs_local_b64",
        about: "sweep of the VGG-11 on a server of this machine that hosts our kernels, over the same here; at most 1.10",
        run: |session| one("remote_vs_local_b64", true, session),
    },
    Bench {
        name: "remote_portable_vs_local_b64",
        about: "the same by Burn's operations alone",
        run: |session| one("remote_portable_vs_local_b64", false, session),
    },
    Bench {
        name: "remote_pool_of_2",
        about: "sweep of the VGG-11 by two servers that share two cores, over one server; no more than it",
        run: |session| pool("remote_pool_of_2", 2, session),
    },
    Bench {
        name: "remote_pool_of_4",
        about: "the same by four servers",
        run: |session| pool("remote_pool_of_4", 4, session),
    },
];

/// Hosts flex, until the process is killed. Prints the address.
///
/// # Errors
/// No free port, or a server that ends.
pub fn child() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("ws://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    Ok(hosted::server([Device::flex()]).serve(WebSocketTransport::from_listener(listener))?)
}

/// A server in a process of its own, and the device that it hosts.
struct Server {
    _process: ChildServer,
    device: Device,
}

impl Server {
    fn start() -> Result<Self> {
        let process = ChildServer::start(Command::new(std::env::current_exe()?).arg("--child-server"))?;
        let device = Device::remote_options(&RemoteHost::websocket(process.address())).init()?;
        Ok(Self { _process: process, device })
    }
}

/// Bytes that went over loopback since the machine started; `None` where the system does not say.
fn loopback() -> Option<u64> {
    let devices = fs::read_to_string("/proc/net/dev").ok()?;
    let line = devices.lines().find_map(|line| line.trim().strip_prefix("lo:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The images so many times.
fn repeated(subject: &Subject, times: usize) -> impl Calibration<Tensor<4>> + use<> {
    let batches: Vec<_> = subject.calibration().batches().flatten().collect();
    FnCalibration::new(move || {
        let batches = batches.clone();
        (0..times).flat_map(move |_| batches.clone()).map(Ok)
    })
}

fn one(name: &'static str, with_kernels: bool, session: &Session) -> Result<Row> {
    let (subject, server) = (session.subject()?, Server::start()?);
    if with_kernels {
        hosted::enable(&server.device)?;
    }
    let config = subject.without_fitting()?;
    let there = subject.model().valid().fork(&server.device);
    // The weights go over while the first batches run: more of them, so that these count for little.
    let data = repeated(subject, 4);
    let seconds = |model| Ok(analyze(model, &data, config)?.seconds.sweep);
    let pairs = Pairs::in_turn(session.pairs, || seconds(&there), || seconds(subject.model()))?;
    // What a batch adds: the model goes over once, and the sums come back once.
    let bytes = |times: usize| -> Result<Option<u64>> {
        let before = loopback();
        analyze(&there, &repeated(subject, times), config)?;
        Ok(loopback().zip(before).map(|(after, before)| after - before))
    };
    let (short, long) = (bytes(1)?, bytes(9)?);
    let input = (BATCH * PIXELS * 4) as f64;
    let wire = match short.zip(long) {
        Some((short, long)) => {
            let batch = (long - short) as f64 / (8 * IMAGES / BATCH) as f64;
            format!(
                "a batch adds {:.3} MB on the wire, {:.3} of its input's {:.3} MB (wanted: at most 1.05); model, sums and the rest {:.1} MB once",
                1e-6 * batch,
                batch / input,
                1e-6 * input,
                1e-6 * (short as f64 - batch * (IMAGES / BATCH) as f64)
            )
        }
        None => "bytes on the wire are not known on this system".into(),
    };
    let note = format!(
        "sweep with class sums of all layers (every position, readouts given) on flex in a process of its own, over WebSocket on loopback, \
         over the same in this process, the images four times: {}; {wire}; images of {SIDE} x {SIDE}",
        subject.about()
    );
    Ok(pairs.row(name, Kind::Cost, Unit::Seconds, note))
}

fn pool(name: &'static str, count: usize, session: &Session) -> Result<Row> {
    let subject = session.subject()?;
    let config = subject.without_fitting()?;
    let data = repeated(subject, 4);
    let servers = (0..count).map(|_| Server::start()).collect::<Result<Vec<_>>>()?;
    let devices: Vec<Device> = servers.iter().map(|server| server.device.clone()).collect();
    let (one, many) = (DevicePool::new([devices[0].clone()]).chunk(4), DevicePool::new(devices).chunk(4));
    let found = RefCell::new(Vec::new());
    let run = |pool: &DevicePool| {
        let mut analysis = analyze_on(subject.model(), &data, pool, config, &NoProgress)?.1;
        let seconds = std::mem::take(&mut analysis.seconds).sweep;
        found.borrow_mut().push(format!("{analysis:?}"));
        Ok(seconds)
    };
    let pairs = Pairs::in_turn(session.pairs, || run(&many), || run(&one))?;
    let found = found.into_inner();
    let same = if found.windows(2).all(|two| two[0] == two[1]) { "the same bits" } else { "OTHER BITS" };
    let note = format!(
        "sweep of {} images in chunks of four batches by {count} servers over that by one, all on the same two cores; every analysis has {same}",
        4 * IMAGES
    );
    Ok(pairs.row(name, Kind::Cost, Unit::Seconds, note))
}
