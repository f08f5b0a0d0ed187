//! Finds test data that lives beside the project and is not part of it.

use std::{path::PathBuf, println, string::String};

/// Reads `../shared/<path>` (or `$MESH_SHARED/<path>`); says so and gives `None`
/// where it is absent, so that the calling test can return.
pub(crate) fn read(path: &str) -> Option<String> {
    let root = std::env::var_os("MESH_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")));
    let file = root.join(path);
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        println!("SKIPPED: {} is not there", file.display());
    }
    text
}
