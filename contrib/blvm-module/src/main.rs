//! The program that a blvm-node starts.
//!
//! The node serves one connection at a time. For each process that it has started it opens one
//! itself, asks over it for the chain's tip, and ends it only when the process has failed: a module
//! that goes on running is never served. So the process that the node starts only starts the
//! program again and fails, and the second process is the module. The node grants to it what
//! module.toml names, as it goes by the name in the handshake, and as it takes nothing back from a
//! process that failed (0.1.54 to 0.1.83: it waits for a lock that is never free).

use blvm_mesh_module::run::{Failure, run};
use blvm_mesh_module::session::SessionError;
use blvm_mesh_module::settings::ModuleSettings;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Tells the second process the node's process id.
const NODE: &str = "BLVM_MESH_NODE_PROCESS";

fn main() -> ExitCode {
    match begin() {
        Ok(code) => code,
        Err(error) => {
            // Short: the node may read nothing of it.
            eprintln!("blvm-mesh-module: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<ExitCode, Failure> {
    let settings = ModuleSettings::read(std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    }))?;
    if !settings.mesh.enabled {
        eprintln!("blvm-mesh-module: the mesh is not enabled (enabled = false)");
        return Ok(ExitCode::SUCCESS);
    }
    let Ok(node) = std::env::var(NODE) else {
        start_again()?;
        return Ok(ExitCode::FAILURE);
    };
    run(settings, |error| matches!(error, SessionError::Connect(..)) || is_gone(&node))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a process is known to be gone.
fn is_gone(process: &str) -> bool {
    let processes = Path::new("/proc");
    processes.join("self").exists() && !processes.join(process).exists()
}

/// Starts this program once more, out of the node's hands.
fn start_again() -> std::io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(NODE, parent_id().to_string()).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    Ok(())
}
