//! The built program, as tests start it.

#[allow(dead_code, reason = "not every test runs nodes")]
pub(crate) mod daemon;

use std::process::Command;

/// Names the program to test, if it is not the one that was built with the tests.
const SHIPPED: &str = "BLVM_MESH_PROGRAM";

/// The program without the settings of whoever runs the tests.
pub(crate) fn program() -> Command {
    let built = env!("CARGO_BIN_EXE_blvm-mesh").into();
    let mut command = Command::new(std::env::var_os(SHIPPED).unwrap_or(built));
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("BLVM_MESH_") {
            command.env_remove(variable);
        }
    }
    command
}
