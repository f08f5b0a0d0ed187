//! The command line's entrance; all of it is in [`blvm_mesh::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    blvm_mesh::cli::main()
}
