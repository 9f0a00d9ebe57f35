//! A save replaces its file whole or not at all, and touches nothing else.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use burn_sfp_core::{Analysis, SfpError};
use burn_sfp_graph::FileError;
use burn_sfp_prune::{PruneError, PrunePlan};
use tempfile::TempDir;

use crate::kinds::{KINDS, analysis, plan};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_state_is_part_of_the_file_and_other_files_stay() {
    let folder = folder();
    let weights = folder.path().join("model.safetensors");
    fs::write(&weights, "weights of the user").unwrap();
    let path = folder.path().join("model.json");
    analysis(1).save_with_state(&path).unwrap();
    assert_eq!(fs::read(&weights).unwrap(), b"weights of the user");
    assert!(Analysis::load(&path).unwrap().has_state());
    assert_eq!(names(folder.path()), ["model.json", "model.safetensors"]);

    // A state of another analysis beside it is not read.
    analysis(2).save_with_state(&weights).unwrap();
    analysis(1).save(&path).unwrap();
    assert!(!Analysis::load(&path).unwrap().has_state());

    // Names that differ only in what looks like an extension.
    let (first, second) = (folder.path().join("run.1"), folder.path().join("run.2"));
    analysis(1).save_with_state(&first).unwrap();
    analysis(2).save_with_state(&second).unwrap();
    for (path, seed) in [(&first, 1), (&second, 2), (&weights, 2)] {
        let (loaded, expected) = (Analysis::load(path).unwrap(), analysis(seed));
        assert_eq!(loaded.fingerprint, expected.fingerprint);
        let (found, wanted) = (loaded.performance_matrix("a", 0), expected.performance_matrix("a", 0));
        assert_eq!(found.unwrap(), wanted.unwrap());
    }
    // Saved, loaded, merged with itself, saved and loaded again.
    let merged = Analysis::load(&first).unwrap().merge(&Analysis::load(&first).unwrap()).unwrap();
    merged.save_with_state(&first).unwrap();
    assert_eq!(Analysis::load(&first).unwrap().samples, 24);
}

#[test]
fn symbolic_links_are_followed() {
    let folder = folder();
    let (links, files) = (folder.path().join("links"), folder.path().join("files"));
    fs::create_dir(&links).unwrap();
    fs::create_dir(&files).unwrap();
    for (index, kind) in KINDS.iter().enumerate() {
        let target = files.join(kind.name);
        if index % 2 == 0 {
            fs::write(&target, "old").unwrap();
        }
        // A link to a link, the second one relative.
        let (outer, inner) = (links.join(kind.name), links.join(format!("inner-{}", kind.name)));
        symlink(Path::new("../files").join(kind.name), &inner).unwrap();
        symlink(&inner, &outer).unwrap();
        (kind.save)(&outer, 1).unwrap();
        assert!(outer.is_symlink() && inner.is_symlink() && !target.is_symlink());
        (kind.reload)(&outer, &target).unwrap();
    }
    assert_eq!(names(&files).len(), KINDS.len());
    assert_eq!(names(&links).len(), 2 * KINDS.len());

    let (one, two) = (links.join("one"), links.join("two"));
    symlink(&one, &two).unwrap();
    symlink(&two, &one).unwrap();
    let error = plan(1).save(&one).unwrap_err();
    assert!(matches!(&error, PruneError::Analysis(SfpError::File(FileError::Io { .. }))), "{error}");
}

#[test]
fn the_mode_of_what_is_replaced_stays() {
    let folder = folder();
    let umask = {
        let path = folder.path().join("plain");
        fs::write(&path, "").unwrap();
        fs::metadata(&path).unwrap().mode() & 0o777
    };
    for kind in &KINDS {
        let path = folder.path().join(kind.name);
        (kind.save)(&path, 1).unwrap();
        let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(mode(), umask, "a new file is one like any other");
        for wanted in [0o600, 0o640, 0o664, 0o444] {
            fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
            (kind.save)(&path, 1).unwrap();
            assert_eq!(mode(), wanted);
        }
    }
}

fn not_regular(path: &Path, found: &str) {
    let before = fs::symlink_metadata(path).unwrap().file_type();
    let is = |error: SfpError| match error {
        SfpError::File(FileError::NotRegular { found: what, path: at }) => assert_eq!((what, &*at), (found, path)),
        other => panic!("{other}"),
    };
    is(analysis(1).save(path).unwrap_err());
    is(analysis(1).save_with_state(path).unwrap_err());
    is(Analysis::load(path).unwrap_err());
    for error in [plan(1).save(path).unwrap_err(), PrunePlan::load(path).unwrap_err()] {
        assert!(matches!(&error, PruneError::Analysis(SfpError::File(FileError::NotRegular { .. }))), "{error}");
    }
    for kind in &KINDS {
        let error = (kind.save)(path, 1).unwrap_err();
        assert!(error.contains(found) && error.contains("give another path"), "{error}");
    }
    assert_eq!(fs::symlink_metadata(path).unwrap().file_type(), before);
}

#[test]
fn what_is_no_regular_file_is_refused_and_stays() {
    let folder = folder();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    not_regular(&inside, "a directory");
    not_regular(Path::new("/dev/null"), "a device");
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let link = folder.path().join("link");
    symlink("/dev/null", &link).unwrap();
    not_regular(&link, "a device");
    let socket = folder.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    not_regular(&socket, "a socket");
    let pipe = folder.path().join("pipe");
    match Command::new("mkfifo").arg(&pipe).status() {
        Ok(status) if status.success() => not_regular(&pipe, "a named pipe"),
        other => println!("skipped: no mkfifo ({other:?})"),
    }
    assert!(fs::metadata(&inside).unwrap().is_dir() && names(&inside).is_empty());
}

#[test]
fn leftovers_are_cleared_unless_their_writer_lives() {
    let folder = folder();
    let put = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, "half a file").unwrap();
        path
    };
    let left = [".plan.json.AbCdEfGh1234.sfp-tmp", ".other.json.000000000000.sfp-tmp"].map(put);
    let held = put(".plan.json.zzzzzzzzzzzz.sfp-tmp");
    let lock = File::open(&held).unwrap();
    lock.lock().unwrap();
    let foreign = [".plan.json.tmp", ".plan.json.short.sfp-tmp", "plan.json.AbCdEfGh1234.sfp-tmp", "tmp"].map(put);
    let directory = folder.path().join(".plan.json.directory123.sfp-tmp");
    fs::create_dir(&directory).unwrap();
    let path = folder.path().join("plan.json");
    plan(1).save(&path).unwrap();
    assert!(left.iter().all(|path| !path.exists()));
    assert!(held.exists() && directory.is_dir() && foreign.iter().all(|path| path.exists()));
    drop(lock);
    plan(1).save(&path).unwrap();
    assert!(!held.exists());
    assert_eq!(PrunePlan::load(&path).unwrap(), plan(1));
}

#[test]
fn names_that_are_long_or_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let odd = std::ffi::OsStr::from_bytes(b"plan-\xff\xfe.json");
    for name in ["x".repeat(255).as_ref(), odd] {
        let path = folder.path().join(name);
        plan(1).save(&path).unwrap();
        assert_eq!(PrunePlan::load(&path).unwrap(), plan(1));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_value_that_cannot_be_loaded_is_not_saved() {
    let folder = folder();
    let path = folder.path().join("file");
    analysis(1).save_with_state(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let mut broken = analysis(1);
    broken.layers[0].performance[0].max = f64::NAN;
    for error in [broken.save(&path).unwrap_err(), broken.save_with_state(&path).unwrap_err()] {
        assert!(matches!(&error, SfpError::InvalidAnalysis(what) if what.contains("NaN")), "{error}");
    }
    let mut broken = plan(1);
    broken.bias_corrections[0].inputs[0].1 = f32::NAN;
    assert!(matches!(broken.save(&path), Err(PruneError::InvalidPlan(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(folder.path()), ["file"]);
}

/// Name of the variable that tells a process of this test what to save, and where.
const CHILD: &str = "SAVE_AGAIN_AND_AGAIN";

/// Runs in processes of their own, started by the tests below: saves one of two analyses again and again.
#[test]
fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (seed, path) = order.split_once(' ').unwrap();
    let analysis = analysis(seed.parse().unwrap());
    // The end of standard input ends the process, should the test that started it be gone.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0);
    });
    loop {
        analysis.save_with_state(path).unwrap();
    }
}

fn start(seed: u64, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "atomic::child", "--nocapture"])
        .env(CHILD, format!("{seed} {}", path.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until a process has saved something.
fn wait_for(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the process saves nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The two files that the processes write.
fn whole(folder: &Path) -> [Vec<u8>; 2] {
    [1, 2].map(|seed| {
        let path: PathBuf = folder.join(format!("whole-{seed}"));
        analysis(seed).save_with_state(&path).unwrap();
        // Everything but the seconds that the analysis took.
        state(&Analysis::load(&path).unwrap())
    })
}

/// The state of an analysis, as it tells one from the other.
fn state(analysis: &Analysis) -> Vec<u8> {
    let layers = ["a", "b"].map(|path| analysis.performance_matrix(path, 1).unwrap());
    let values = layers.iter().flatten().flat_map(|value| value.to_le_bytes());
    let fingerprint = serde_json::to_vec(&analysis.fingerprint).unwrap();
    values.chain(fingerprint).collect()
}

#[test]
fn processes_that_save_and_load_at_once_do_not_mix() {
    let folder = folder();
    let expected = whole(folder.path());
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let path = inside.join("shared");
    let mut children = [start(1, &path), start(2, &path)];
    wait_for(&path);
    let (mut seen, started) = ([0, 0], Instant::now());
    while started.elapsed() < Duration::from_secs(2) || (seen.contains(&0) && started.elapsed().as_secs() < 60) {
        let found = state(&Analysis::load(&path).unwrap());
        let which = expected.iter().position(|whole| *whole == found).expect("the file is one of the two");
        seen[which] += 1;
    }
    children.iter_mut().for_each(|child| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    println!("{seen:?} loads beside two processes that save");
    assert!(seen.iter().all(|count| *count > 0));
    analysis(1).save_with_state(&path).unwrap();
    assert_eq!(names(&inside), ["shared"]);
}

#[test]
fn a_process_that_is_killed_leaves_a_whole_file_and_no_other() {
    const KILLS: u64 = 12;
    let folder = folder();
    let expected = whole(folder.path());
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let path = inside.join("killed");
    let mut left = 0;
    for kill in 0..KILLS {
        let seed = kill % 2 + 1;
        let _ = fs::remove_file(&path);
        let mut child = start(seed, &path);
        wait_for(&path);
        std::thread::sleep(Duration::from_micros(1700 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(state(&Analysis::load(&path).unwrap()), expected[seed as usize - 1]);
        left += names(&inside).len() - 1;
        analysis(3).save_with_state(&path).unwrap();
        assert_eq!(names(&inside), ["killed"]);
    }
    println!("{left} temporary files left by {KILLS} kills and cleared");
}

#[test]
fn threads_that_save_at_once_do_not_mix() {
    let folder = folder();
    let path = folder.path().join("plan.json");
    let plans = [plan(1), plan(2)];
    plans[0].save(&path).unwrap();
    std::thread::scope(|scope| {
        for plan in &plans {
            for _ in 0..2 {
                scope.spawn(|| (0..60).for_each(|_| plan.save(&path).unwrap()));
            }
        }
        for _ in 0..2 {
            scope.spawn(|| (0..200).for_each(|_| assert!(plans.contains(&PrunePlan::load(&path).unwrap()))));
        }
    });
    assert_eq!(names(folder.path()), ["plan.json"]);
}
