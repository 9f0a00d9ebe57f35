//! A report on every small network of the zoo.

use burn::tensor::Device;
use burn_sfp::prelude::*;
use models::random::randomise;
use models::zoo::{Entry, Size, Visit, visit_all};

/// Bytes of the largest page.
const LARGEST: usize = 2_000_000;

struct Reports(Vec<String>);

impl Visit for Reports {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let model = randomise(&model, 7);
        let name = entry.name;
        let network = Network::capture(&model, &input).unwrap_or_else(|error| panic!("{name}: {error}"));
        let planner = Planner::new().budget(Budget::PerLayer(0.5));
        let pruned = planner.prune(&model, &input, &Magnitude::l2()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let report = pruned.report().title(name).network(&network);
        let html = report.html().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(html.len() < LARGEST, "{name}: {} bytes", html.len());
        for layer in network.layers() {
            assert!(html.contains(layer.path.as_str()), "{name}: {} is missing", layer.path);
        }
        assert!(!html.contains("edges have no room"), "{name}: edges are missing");
        // To look at: the folder must be there.
        if let Some(folder) = std::env::var_os("REPORT_PAGES") {
            let file = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            report.write_html(std::path::Path::new(&folder).join(format!("{file}.html"))).unwrap();
        }
        self.0.push(name.to_string());
    }
}

#[test]
fn every_network_has_a_report() {
    let mut reports = Reports(Vec::new());
    visit_all(Size::Small, &Device::flex(), &mut reports);
    assert!(reports.0.len() >= 20, "{:?}", reports.0);
}
