//! The program: runs the command line of the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    blvm_mesh::main()
}
