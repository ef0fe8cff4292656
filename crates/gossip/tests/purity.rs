//! The protocol has no clock, no runtime and no randomness of its own: all of that comes from outside, so
//! that one seed gives one run.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

const FORBIDDEN_WORDS: [&str; 12] = [
    "Instant::now",
    "SystemTime",
    "thread_rng",
    "rand::rng()",
    "rand::random",
    "from_os_rng",
    "OsRng",
    "std::net",
    "std::thread",
    "std::fs",
    "HashMap",
    "HashSet",
];

const FORBIDDEN_CRATES: [&str; 7] = [
    "tokio",
    "tonic",
    "futures",
    "async-trait",
    "selvedge-transport",
    "selvedge-msp",
    "getrandom",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_source_reaches_for_the_world() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20);
    for file in files {
        // The only place that looks at a clock, for unit tests.
        if file.ends_with("src/testing.rs") {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for word in FORBIDDEN_WORDS {
                let place = format!("{}:{}", file.display(), number + 1);
                assert!(!line.contains(word), "{place} uses {word}");
            }
        }
    }
}

#[test]
fn no_dependency_brings_the_world_in() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).unwrap();
    let (_, rest) = manifest.split_once("[dependencies]").unwrap();
    let (dependencies, _) = rest.split_once("[dev-dependencies]").unwrap();
    for name in FORBIDDEN_CRATES {
        assert!(!dependencies.contains(name), "depends on {name}");
    }
    let ours: Vec<&str> = dependencies
        .lines()
        .filter(|line| line.starts_with("selvedge-"))
        .collect();
    assert_eq!(ours, ["selvedge-protos.workspace = true"]);
}
