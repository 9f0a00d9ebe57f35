//! Saving is deterministic, and replaces what was there.

use std::fs;

use burn_sfp_prune::load_pruned;

use crate::net::Net;
use crate::whole::pruned;

#[test]
fn the_same_model_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["net.safetensors", "net.bpk"] {
        let (path, other) = (folder.path().join(name), folder.path().join(format!("other-{name}")));
        fs::write(&path, "something else").unwrap();
        pruned(1).save(&path).unwrap();
        load_pruned(Net::new(2), &path).unwrap().save(&other).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&other).unwrap(), "{name}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), if name.ends_with("bpk") { 4 } else { 2 });
    }
}
