//! Links each image with the memory map of its board.

use std::path::PathBuf;
use std::{env, fs};

/// Images and their boards.
const IMAGES: [(&str, &str); 4] = [
    ("relay", "mps2"),
    ("measure", "measure"),
    ("relay-nrf52840", "nrf52840"),
    ("relay-rak4631", "rak4631"),
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for (image, board) in IMAGES {
        let (map, dir) = (format!("memory/{board}.x"), out.join(board));
        fs::create_dir_all(&dir).expect("OUT_DIR is writable");
        fs::copy(&map, dir.join("memory.x")).expect("the memory map is there");
        // The vectors are in the library; nobody names interrupts in a script.
        fs::write(dir.join("device.x"), "").expect("OUT_DIR is writable");
        println!("cargo:rustc-link-arg-bin={image}=-L{}", dir.display());
        println!("cargo:rerun-if-changed={map}");
    }
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rustc-link-arg-bins=--nmagic");
}
