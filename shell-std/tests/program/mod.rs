//! The built program, as tests start it.

#[allow(dead_code, reason = "not every test runs nodes")]
pub(crate) mod daemon;

use std::process::Command;

/// The program without the settings of whoever runs the tests.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-mesh"));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("BLVM_MESH_") {
            command.env_remove(variable);
        }
    }
    command
}
