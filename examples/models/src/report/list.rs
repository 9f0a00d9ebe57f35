//! Every network with its sizes, counted and published.

use burn::tensor::Device;
use burn_sfp::prelude::GraphModule;
use comfy_table::Table;

use crate::figure::grouped;
use crate::size::{macs, parameters};
use crate::zoo::{Entry, Size, Visit, visit_all};

/// A row for each network.
pub fn listed(device: &Device) -> Table {
    let header = ["network", "parameters", "published", "multiply-adds", "published", "agree", "source"];
    let mut rows = Rows(super::empty(&header, 4));
    visit_all(Size::Standard, device, &mut rows);
    rows.0
}

struct Rows(Table);

impl Visit for Rows {
    fn visit<M: GraphModule>(&mut self, entry: &Entry, model: M, input: M::Inputs) {
        let parameters = parameters(&model);
        let (counted, macs_agree) = match macs(&model, &input) {
            Ok(macs) => (grouped(macs.all), entry.macs_agree(macs)),
            Err(error) => (format!("error: {error}"), Some(false)),
        };
        self.0.add_row([
            entry.name.to_string(),
            grouped(parameters),
            entry.parameters.map(|figure| figure.to_string()).unwrap_or_default(),
            counted,
            published_macs(entry),
            agreement(entry.parameters_agree(parameters), macs_agree).to_string(),
            entry.source.to_string(),
        ]);
    }
}

fn published_macs(entry: &Entry) -> String {
    let all = entry.macs.map(|figure| figure.to_string());
    all.or(entry.layer_macs.map(|figure| format!("layers: {figure}"))).unwrap_or_default()
}

/// One word for both published numbers.
fn agreement(parameters: Option<bool>, macs: Option<bool>) -> &'static str {
    match (parameters, macs) {
        (None, None) => "",
        (Some(false), Some(false)) => "neither",
        (Some(false), _) => "not the parameters",
        (_, Some(false)) => "not the multiply-adds",
        _ => "yes",
    }
}
