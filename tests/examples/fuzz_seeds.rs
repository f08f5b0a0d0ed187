//! Writes the seeds of the fuzz targets to `tests/fuzz/seeds`. What was found and
//! is kept there stays.

use blvm_mesh_tests::fuzz::corpus::directory;
use blvm_mesh_tests::fuzz::seeds;

fn main() -> std::io::Result<()> {
    let mut total = 0;
    for (target, name, bytes) in seeds::all() {
        let directory = directory(target);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(name), &bytes)?;
        total += bytes.len();
    }
    println!("{total} bytes");
    Ok(())
}
