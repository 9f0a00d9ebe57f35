//! Every output of a report, its escaping, its limits and its errors.

mod common;

use std::fs;
use std::time::Instant;

use burn_sfp_core::performance::FilterPerformance;
use burn_sfp_graph::FileError;
use burn_sfp_graph::latency::LatencyTable;
use burn_sfp_report::{Report, ReportError, ReportExt};
use common::{LABELS, analysis_config, attentive, by_weights, connections, many_labels, ranked, tower};

/// A table of latencies as one reads it from a file.
fn latencies() -> LatencyTable {
    let row = |model: &str, milliseconds: f64| {
        let seconds = milliseconds / 1e3;
        format!(
            r#"{{"model":"{model}","batch":64,"latency":{{"median":{seconds},"min":{seconds},"max":{seconds}}},"macs":1000,"bytes":4000}}"#
        )
    };
    serde_json::from_str(&format!(r#"{{"rows":[{},{}]}}"#, row("trained", 8.0), row("pruned", 2.0))).unwrap()
}

fn names() -> Vec<String> {
    (0..LABELS).map(|label| format!("name-{label}")).collect()
}

#[test]
fn all_outputs_show_what_was_done() {
    let (pruned, network) = ranked(analysis_config());
    let table = latencies();
    let report = pruned
        .report()
        .title("A report")
        .network(&network)
        .latency(&table)
        .labels(names())
        .bytes(20_000, 8_000)
        .accuracy_before(0.9)
        .accuracy_pruned(0.2)
        .accuracy_tuned(0.88);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    report.write_html(at("report.html")).unwrap();
    report.write_markdown(at("report.md")).unwrap();
    report.write_json(at("report.json")).unwrap();
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();

    let html = read("report.html");
    for part in
        ["<h1>A report</h1>", "90.00 %", "20.00 %", "88.00 %", "20.0 kB", "narrow", "name-5", "reason-1", "plot-snr"]
    {
        assert!(html.contains(part), "{part} is missing in the page");
    }
    for elsewhere in ["http://", "https://", "src=", "@import", "url(h"] {
        let allowed = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!allowed.contains(elsewhere), "the page loads {elsewhere}");
    }
    let markdown = read("report.md");
    for part in ["# A report", "| parameters |", "| narrow | conv2d | 8 → 4 |", "25.0 %"] {
        assert!(markdown.contains(part), "{part} is missing in\n{markdown}");
    }
    let json: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(json["format"], 1);
    assert_eq!(json["layers"][1]["filters"], serde_json::json!([8, 4]));
    let printed = report.to_string();
    for part in [
        "A report",
        "parameters",
        "90.00 % -> 20.00 % -> 88.00 %",
        "8.000 ms -> 2.000 ms (25.0 %)",
        "layers lost filters",
    ] {
        assert!(printed.contains(part), "{part} is missing in\n{printed}");
    }
}

#[test]
fn the_graph_has_the_branches_of_the_network() {
    let (pruned, network) = ranked(analysis_config());
    let json: serde_json::Value = serde_json::from_str(&pruned.report().network(&network).json().unwrap()).unwrap();
    let nodes = json["drawing"]["nodes"].as_array().unwrap();
    let add = nodes.iter().position(|node| node["kind"]["join"] == "Add").unwrap();
    assert_eq!(nodes[add]["reads"], serde_json::json!([1, 3]), "the stem and the branch come together");
    assert_eq!(nodes.last().unwrap()["kind"], "output");
    let reads = |layer: usize| json["links"][layer]["from"].clone();
    assert_eq!(reads(1), serde_json::json!(["stem"]));
    assert_eq!(reads(3), serde_json::json!(["wide", "stem"]));
    let without: serde_json::Value = serde_json::from_str(&pruned.report().json().unwrap()).unwrap();
    assert_eq!(without["drawing"]["captured"], false);
    assert_eq!(without["drawing"]["nodes"].as_array().unwrap().len(), 4);
}

#[test]
fn single_filters_are_those_of_the_analysis() {
    let (pruned, _) = ranked(analysis_config());
    let json: serde_json::Value = serde_json::from_str(&pruned.report().json().unwrap()).unwrap();
    for (layer, of) in json["recognised"]["layers"].as_array().unwrap().iter().zip(&pruned.analysis.layers) {
        let plan = pruned.plan.layer(&of.path).unwrap();
        let listed = layer["listed"].as_array().unwrap();
        assert_eq!(listed.len(), plan.filters_before);
        let staying = listed.iter().filter(|filter| filter["stays"] == true).count();
        assert_eq!(staying, plan.filters_after, "{}", of.path);
        for (filter, performance) in listed.iter().zip(&of.performance) {
            assert_eq!(filter["clusters"], serde_json::json!(performance.clusters));
            let matrix = &filter["matrix"];
            let first: Vec<usize> = performance.clusters.iter().flatten().copied().collect();
            assert_eq!(matrix["labels"].as_array().unwrap().len(), LABELS);
            assert_eq!(
                matrix["labels"].as_array().unwrap()[..first.len()],
                serde_json::json!(first).as_array().unwrap()[..]
            );
            assert!(matrix["elements"].as_str().unwrap().len() >= LABELS * LABELS);
        }
    }
}

#[test]
fn heads_are_listed_beside_layers() {
    let pruned = attentive();
    let json: serde_json::Value = serde_json::from_str(&pruned.report().json().unwrap()).unwrap();
    let layers = json["recognised"]["layers"].as_array().unwrap();
    let heads = layers.iter().find(|layer| layer["kind"] == "heads").unwrap();
    assert_eq!((&heads["path"], heads["listed"].as_array().unwrap().len()), (&serde_json::json!("attention"), 3));
    assert!(heads["listed"][0]["stays"].is_null() && heads["listed"][0]["matrix"].is_object());
    let reasons: Vec<&str> =
        json["kept"].as_array().unwrap().iter().map(|kept| kept["reason"].as_str().unwrap()).collect();
    assert!(!reasons.is_empty() && pruned.plan.unpruned.iter().all(|layer| reasons.contains(&layer.reason.as_str())));
}

#[test]
fn without_kept_state_the_page_says_so() {
    let (pruned, _) = ranked(burn_sfp_core::AnalyzeConfig::new());
    let json: serde_json::Value = serde_json::from_str(&pruned.report().json().unwrap()).unwrap();
    assert_eq!(json["recognised"]["has_matrices"], false);
    assert!(json["recognised"]["layers"][0]["listed"][0]["matrix"].is_null());
    let html = pruned.report().html().unwrap();
    assert!(html.contains("\"has_matrices\":false") && html.contains("AnalyzeConfig::with_accuracy(true)"));
}

#[test]
fn removed_connections_are_mapped() {
    let pruned = connections();
    let json: serde_json::Value = serde_json::from_str(&pruned.report().json().unwrap()).unwrap();
    let masks: u64 = json["links"].as_array().unwrap().iter().map(|link| link["masked"].as_u64().unwrap()).sum();
    let totals = pruned.plan.totals();
    assert!(masks > 0 && masks < totals.connections_before);
    for text in [pruned.report().html().unwrap(), pruned.report().markdown().unwrap()] {
        assert!(text.contains("Connections that were removed one by one are zeros"));
    }
    assert!(!by_weights().report().html().unwrap().contains("one by one are zeros"));
    for (link, layer) in json["links"].as_array().unwrap().iter().zip(&pruned.plan.layers) {
        assert_eq!(link["after"].as_u64().unwrap(), layer.connections_after);
        assert_eq!(link["map"].is_null(), layer.connections_after == layer.connections_before, "{}", layer.path);
    }
}

#[test]
fn a_module_without_analysis_has_a_report_too() {
    let pruned = by_weights();
    let html = pruned.report().html().unwrap();
    assert!(html.contains("The report was made without an analysis") && !html.contains("id=\"plot-snr\""));
    assert_eq!(pruned.report().markdown().unwrap(), Report::new(&pruned.plan).markdown().unwrap());
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(pruned.report().write_png(folder.path()).unwrap().len(), 2, "sizes and filters");
}

#[test]
fn text_from_outside_is_escaped() {
    const EVIL: &str = "</script><script>window.evil = 1</script><img src=x onerror=alert(1)>|`\n";
    let (pruned, network) = ranked(analysis_config());
    let (mut plan, mut analysis) = (pruned.plan.clone(), pruned.analysis.clone());
    plan.policy = EVIL.into();
    for layer in &mut plan.layers {
        layer.path = format!("{EVIL}{}", layer.path);
    }
    for layer in &mut plan.unpruned {
        (layer.path, layer.reason) = (EVIL.into(), EVIL.into());
    }
    for group in &mut plan.groups {
        group.layers = vec![EVIL.into(); 2];
        for held in &mut group.held {
            held.reason = EVIL.into();
        }
    }
    plan.unreached.push(EVIL.into());
    let mut table = latencies();
    table.rows[0].model = EVIL.into();
    // The names of layers of an analysis are what its state is found by: here it has none.
    for layer in &mut analysis.layers {
        layer.path = format!("{EVIL}{}", layer.path);
    }
    let saved = serde_json::to_string(&analysis).unwrap();
    let analysis = serde_json::from_str(&saved).unwrap();
    let report =
        Report::new(&plan).analysis(&analysis).network(&network).latency(&table).title(EVIL).labels(vec![EVIL; LABELS]);
    let html = report.html().unwrap();
    assert_eq!(html.matches("</script>").count(), 2, "the page's own two");
    assert_eq!(html.matches("<script").count(), 2);
    assert_eq!(html.matches("<img").count(), 0);
    assert!(html.contains("&lt;script&gt;window.evil"));
    let markdown = report.markdown().unwrap();
    assert!(!markdown.contains("<script") && !markdown.contains("<img") && markdown.contains("&lt;img"));
    let columns = |line: &str| line.replace("\\|", "").matches('|').count();
    let layers: Vec<&str> = markdown.lines().filter(|line| line.contains("conv2d")).collect();
    assert!(layers.len() == 3 && layers.iter().all(|line| columns(line) == 9), "{layers:?}");
    assert!(
        serde_json::from_str::<serde_json::Value>(&report.json().unwrap()).unwrap()["title"].as_str() == Some(EVIL)
    );
}

#[test]
fn the_same_report_has_the_same_bytes() {
    let (pruned, network) = ranked(analysis_config());
    let report = || pruned.report().network(&network).labels(names());
    assert_eq!(report().html().unwrap(), report().html().unwrap());
    assert_eq!(report().json().unwrap(), report().json().unwrap());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [first, second] = folders.each_ref().map(|folder| report().write_png(folder.path().join("plots")).unwrap());
    let found: Vec<&str> = first.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(found, ["sizes", "filters", "accuracy", "snr", "clusters", "labels"]);
    for (a, b) in first.iter().zip(&second) {
        let (a, b) = (fs::read(a).unwrap(), fs::read(b).unwrap());
        assert!(a.starts_with(b"\x89PNG") && a == b);
    }
}

#[test]
fn files_are_replaced_whole() {
    let (pruned, _) = ranked(analysis_config());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    fs::write(&path, "old").unwrap();
    pruned.report().write_html(&path).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let (pruned, _) = ranked(analysis_config());
    let folder = tempfile::tempdir().unwrap();
    let report = pruned.report();
    let missing = folder.path().join("missing/report.html");
    assert!(matches!(report.write_html(&missing), Err(ReportError::File(FileError::Io { action: "written", .. }))));
    assert!(matches!(report.write_json(folder.path()), Err(ReportError::File(FileError::NotRegular { .. }))));
    assert!(matches!(report.write_markdown(folder.path()), Err(ReportError::File(FileError::NotRegular { .. }))));
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(report.write_png(file.join("plots")), Err(ReportError::Folder { .. })));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (pruned, network) = ranked(analysis_config());
    let report = || pruned.report();
    for wrong in [1.5, -0.1, f64::NAN] {
        assert!(matches!(report().accuracy_tuned(wrong).html(), Err(ReportError::Accuracy { when: "tuned", .. })));
        assert!(matches!(report().accuracy_before(wrong).json(), Err(ReportError::Accuracy { when: "before", .. })));
        assert!(matches!(
            report().accuracy_pruned(wrong).markdown(),
            Err(ReportError::Accuracy { when: "pruned", .. })
        ));
    }
    let few = report().labels(["one"]).html();
    assert!(matches!(few, Err(ReportError::Labels { found: 1, expected: LABELS })), "{few:?}");
    let mut analysis = pruned.analysis.clone();
    analysis.layers[0].performance.push(FilterPerformance::default());
    let of_no_filter = Report::new(&pruned.plan).analysis(&analysis).html();
    assert!(matches!(of_no_filter, Err(ReportError::Matrix { filter: 12, .. })), "{of_no_filter:?}");
    let mut plan = pruned.plan.clone();
    plan.model[2].path = "other".into();
    let of_another = Report::new(&plan).analysis(&pruned.analysis).html();
    assert!(
        matches!(of_another, Err(ReportError::OtherModel { what: "the analysis", ref parameter }) if parameter == "other")
    );
    let of_another = Report::new(&plan).network(&network).html();
    assert!(matches!(of_another, Err(ReportError::OtherModel { what: "the network", .. })));
}

#[test]
fn ten_thousand_layers_make_a_file_of_some_megabytes() {
    let (pruned, _) = ranked(analysis_config());
    let (mut plan, mut analysis) = (pruned.plan.clone(), pruned.analysis.clone());
    let (layer, analysed) = (plan.layers[1].clone(), analysis.layers[1].clone());
    let cut = plan.cuts.iter().find(|cut| cut.path == layer.weight).unwrap().clone();
    for number in 0..10_000 {
        let mut more = layer.clone();
        more.path = format!("blocks.{number}.conv");
        more.weight = format!("blocks.{number}.conv.weight");
        let mut cut = cut.clone();
        cut.path = more.weight.clone();
        let mut unit = analysed.clone();
        unit.path = more.path.clone();
        plan.layers.push(more);
        plan.cuts.push(cut);
        plan.unreached.push(unit.path.clone());
        analysis.layers.push(unit);
    }
    // What was read from JSON has no state.
    let analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
    let report = Report::new(&plan).analysis(&analysis);
    let started = Instant::now();
    let (html, markdown, json) = (report.html().unwrap(), report.markdown().unwrap(), report.json().unwrap());
    let seconds = started.elapsed().as_secs_f64();
    println!("10,004 layers: {seconds:.1} s, {} bytes of HTML, {} of JSON", html.len(), json.len());
    assert!(html.len() < 8_000_000 && json.len() < 8_000_000 && markdown.len() < 1_000_000 && seconds < 30.0);
    for part in [
        "layers: the first 400 of 10004",
        "analysed layers: the first 400 of 10003",
        "warnings: the first 200 of 10000",
    ] {
        assert!(html.contains(part) && markdown.contains(part), "{part} is not said");
    }
}

#[test]
fn a_deep_network_is_drawn_as_far_as_there_is_room() {
    let (pruned, network) = tower(600);
    let started = Instant::now();
    let html = pruned.report().network(&network).html().unwrap();
    println!("602 layers, captured: {:.1} s, {} bytes", started.elapsed().as_secs_f64(), html.len());
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    // An input, and a layer and a sum for each of 400 listed layers but the first.
    assert!(
        html.contains("graph: the first 800 of 1204 nodes are drawn"),
        "{}",
        &html[html.find("graph: ").unwrap()..][..80]
    );
    assert!(html.contains("blocks.397") && !html.contains("blocks.400") && !html.contains("edges have no room"));
    assert!(html.contains("and 394 more"), "sources of a layer far down");
}

#[test]
fn a_thousand_labels_make_a_file_of_some_megabytes() {
    let (pruned, _) = ranked(analysis_config());
    let mut analysis = pruned.analysis.clone();
    analysis.classes = 1_000;
    let mut filter = FilterPerformance::default();
    filter.clusters = vec![(0..300).collect(), (300..500).collect(), (700..1_000).collect()];
    for layer in &mut analysis.layers {
        layer.performance = vec![filter.clone(); 2_048];
        layer.filters = 2_048;
        layer.summary.filters_per_label = vec![7; 1_000];
    }
    let analysis = serde_json::from_str(&serde_json::to_string(&analysis).unwrap()).unwrap();
    let report = Report::new(&pruned.plan).analysis(&analysis);
    let started = Instant::now();
    let html = report.html().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("1,000 labels, 2,048 filters: {seconds:.1} s, {} bytes", html.len());
    assert!(html.len() < 8_000_000 && seconds < 30.0);
    assert!(html.contains("filters are listed, evenly spread"));
}

#[test]
fn matrices_of_many_labels_are_cut() {
    let pruned = many_labels(700);
    let started = Instant::now();
    let html = pruned.report().html().unwrap();
    println!("700 labels with matrices: {:.1} s, {} bytes", started.elapsed().as_secs_f64(), html.len());
    assert!(html.len() < 8_000_000, "{} bytes", html.len());
    assert!(html.contains("performance matrices: 100 of 700 labels are shown"));
    let json: serde_json::Value = serde_json::from_str(&pruned.report().json().unwrap()).unwrap();
    let layers = json["recognised"]["layers"].as_array().unwrap();
    let listed = layers.iter().flat_map(|layer| layer["listed"].as_array().unwrap());
    let matrices: Vec<_> = listed.map(|filter| &filter["matrix"]).filter(|matrix| !matrix.is_null()).collect();
    assert!(matrices.len() > 100 && matrices.len() < 512, "{} matrices", matrices.len());
    for matrix in matrices {
        assert_eq!((matrix["labels"].as_array().unwrap().len(), matrix["more"].as_u64()), (100, Some(600)));
        assert_eq!(matrix["elements"].as_str().unwrap().len(), 13_336, "100 times 100 bytes in base64");
    }
}
