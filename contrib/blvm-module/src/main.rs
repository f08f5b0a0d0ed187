//! The program that a blvm-node starts.

use blvm_mesh_module::run::{Failure, run};
use blvm_mesh_module::settings::ModuleSettings;
use std::os::unix::process::parent_id;
use std::process::ExitCode;

fn main() -> ExitCode {
    match begin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Short: the node may read nothing of it.
            eprintln!("blvm-mesh-module: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<(), Failure> {
    let parent = parent_id();
    let settings = ModuleSettings::read(std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    }))?;
    if !settings.mesh.enabled {
        eprintln!("blvm-mesh-module: the mesh is not enabled (enabled = false)");
        return Ok(());
    }
    run(settings, || parent_id() != parent)
}
