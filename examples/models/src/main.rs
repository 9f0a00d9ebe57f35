//! Lists the networks with their sizes, counted and published.

use burn::tensor::Device;
use burn_sfp::prelude::GraphModule;
use clap::{CommandFactory, Parser};
use comfy_table::{CellAlignment, Table, presets};
use models::figure::grouped;
use models::size::{macs, parameters};
use models::zoo::{Entry, Size, Visit, visit_all};

/// Well-known networks for Burn, to prune and to test with.
#[derive(Parser, Debug)]
struct Args {
    /// Prints each network with its parameters and its multiply-adds for one sample, and whether the published numbers agree.
    #[arg(long)]
    list: bool,
}

/// A row for each network.
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

fn main() -> Result<(), clap::Error> {
    if !Args::parse().list {
        return Args::command().print_help().map_err(Into::into);
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "network",
        "parameters",
        "published",
        "multiply-adds",
        "published",
        "agree",
        "source",
    ]);
    for column in table.column_iter_mut().skip(1).take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut rows = Rows(table);
    visit_all(Size::Standard, &Device::flex(), &mut rows);
    println!("{}", rows.0);
    Ok(())
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
