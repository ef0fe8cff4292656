//! Generates Rust from `proto/`: messages for `selvedge-protos`, services for `selvedge-transport`.
//!
//! The output is committed, so that a build needs neither `protoc` nor this crate. A test of this
//! crate generates again and compares.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Where the messages are kept, relative to the workspace root.
pub const MESSAGES: &str = "crates/protos/src/generated";
/// Where the services are kept, relative to the workspace root.
pub const SERVICES: &str = "crates/transport/src/generated";

/// The protobuf packages that hold services, and the module of `selvedge-protos` with their messages.
const PACKAGES: &[&str] = &[
    "common",
    "discovery",
    "etcdraft",
    "gateway",
    "gossip",
    "kvrwset",
    "lifecycle",
    "msp",
    "orderer",
    "protos",
    "queryresult",
    "rwset",
    "smartbftprotos",
    "transientstore",
];

/// The workspace that this crate was built in.
pub fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Generated files by their path relative to the workspace root.
pub type Files = BTreeMap<PathBuf, String>;

/// Generates everything in memory.
pub fn generate(root: &Path) -> Result<Files> {
    let protos = root.join("proto");
    let sources = proto_files(&protos)?;
    let descriptors = protox::compile(&sources, [&protos]).context("compiling proto/")?;
    let mut files = Files::new();

    let messages = TempDir::new()?;
    prost_build::Config::new()
        .out_dir(messages.path())
        .bytes(["."])
        .btree_map(["."])
        .include_file("mod.rs")
        .format(true)
        .compile_fds(descriptors.clone())
        .context("generating messages")?;
    collect(messages.path(), Path::new(MESSAGES), &mut files)?;

    let services = TempDir::new()?;
    let mut builder = tonic_prost_build::configure()
        .out_dir(services.path())
        .build_transport(false)
        .disable_comments(["."]);
    for package in PACKAGES {
        builder = builder.extern_path(
            format!(".{package}"),
            format!("::selvedge_protos::{package}"),
        );
    }
    builder
        .compile_fds(descriptors)
        .context("generating services")?;
    collect(services.path(), Path::new(SERVICES), &mut files)?;
    files.retain(|_, text| {
        !text
            .lines()
            .all(|line| line.starts_with("//") || line.is_empty())
    });
    Ok(files)
}

/// Generates everything and replaces what is committed.
pub fn write(root: &Path) -> Result<()> {
    let files = generate(root)?;
    for folder in [MESSAGES, SERVICES] {
        let folder = root.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
    }
    for (path, text) in files {
        fs::write(root.join(path), text)?;
    }
    Ok(())
}

/// What is committed now, for comparison with [`generate`].
pub fn committed(root: &Path) -> Result<Files> {
    let mut files = Files::new();
    for folder in [MESSAGES, SERVICES] {
        collect(&root.join(folder), Path::new(folder), &mut files)?;
    }
    Ok(files)
}

fn proto_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn collect(from: &Path, to: &Path, files: &mut Files) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        files.insert(to.join(entry.file_name()), text);
    }
    Ok(())
}
