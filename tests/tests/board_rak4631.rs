//! The image for the RAK4631: its budgets, and the file that its bootloader takes, read back by a reader of
//! our own. Skipped, and said so, where there is no way to build the image, or no Python.

use blvm_mesh_tests::board::{hold, image, sizes};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the bootloader starts an application behind the SoftDevice S140 6.1.1, and where the image
/// looks for payments and for its configuration.
const START: u32 = 0x26000;
const STORE: u32 = 0xa4000;
const CONFIGURATION: u32 = 0xac000;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/boards/uf2")
}

/// Runs the script; `None`: there is no Python.
fn uf2(arguments: &[&Path], more: &[&str]) -> Option<Output> {
    let out = Command::new("python3").arg(script()).args(arguments).args(more).output();
    out.inspect_err(|e| println!("SKIPPED: python3 cannot be run: {e}")).ok()
}

fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(block[at..at + 4].try_into().unwrap())
}

/// What a bootloader writes that takes the file: bytes by their addresses (github.com/microsoft/uf2,
/// `is_uf2_block` of the bootloader).
fn read(file: &[u8]) -> BTreeMap<u32, u8> {
    assert!(!file.is_empty() && file.len().is_multiple_of(512));
    let (mut flash, blocks) = (BTreeMap::new(), file.len() / 512);
    for (number, block) in file.chunks(512).enumerate() {
        assert_eq!(
            [word(block, 0), word(block, 4), word(block, 508)],
            [0x0a32_4655, 0x9e5d_5157, 0x0ab1_6f30]
        );
        // A family is named; it is for the flash; 256 bytes at a multiple of 256.
        let (flags, address, len) = (word(block, 8), word(block, 12), word(block, 16));
        assert_eq!((flags, len, address % 256), (0x2000, 256, 0));
        assert_eq!(word(block, 28), 0xada5_2840, "the nRF52840");
        assert_eq!([word(block, 20), word(block, 24)], [number as u32, blocks as u32]);
        assert!(block[288..508].iter().all(|byte| *byte == 0));
        for (at, byte) in (address..).zip(&block[32..288]) {
            assert!((0x26000..0xad000).contains(&at), "{at:#x}");
            assert_eq!(flash.insert(at, *byte), None, "{at:#x} comes twice");
        }
    }
    flash
}

fn bytes(flash: &BTreeMap<u32, u8>, from: u32, len: usize) -> Vec<u8> {
    (from..from + len as u32).map(|at| flash[&at]).collect()
}

/// An ELF file of 32 bits with one loaded segment, and one that is only memory.
fn elf(address: u32, body: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 52];
    file[..6].copy_from_slice(b"\x7fELF\x01\x01");
    file[28] = 52;
    file[42] = 32;
    file[44] = 2;
    for (offset, at, len) in [(116, address, body.len() as u32), (0, 0x2000_0000, 0)] {
        for field in [1, offset, 0x2000_0000, at, len, 4096, 7, 4] {
            file.extend(u32::to_le_bytes(field));
        }
    }
    file.extend(body);
    file
}

/// The configuration `BLVM...` at its place, as `board-config` writes it.
const HEX: &str = ":02000004000AF0\n:04C00000424C564D0B\n:00000001FF\n";

#[test]
fn a_file_for_the_bootloader_has_the_image_and_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let body: Vec<u8> = (0..1_000u32).map(|n| n as u8).collect();
    std::fs::write(path("image"), elf(START, &body)).unwrap();
    std::fs::write(path("board.hex"), HEX).unwrap();
    let (image, hex, out) = (path("image"), path("board.hex"), path("out.uf2"));
    let Some(made) = uf2(&[&out, &image, &hex], &["--erase", "0xa4000+0x8000"]) else { return };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let flash = read(&std::fs::read(&out).unwrap());
    assert_eq!(bytes(&flash, START, 1_000), body);
    assert_eq!(bytes(&flash, CONFIGURATION, 5), b"BLVM\xff");
    assert_eq!(bytes(&flash, STORE, 0x8000), [0xff; 0x8000]);
    assert_eq!(flash.len(), 1_024 + 256 + 0x8000);
    // The same as Intel HEX, which the script reads as well.
    let (all, again) = (path("all.hex"), path("again.uf2"));
    assert!(uf2(&[&all, &image, &hex], &[]).unwrap().status.success());
    assert!(uf2(&[&again, &all], &[]).unwrap().status.success());
    let again = read(&std::fs::read(&again).unwrap());
    assert!(again.iter().all(|(at, byte)| flash[at] == *byte) && again.len() == 1_024 + 256);

    let fails = |name: &str, contents: &[u8], expected: &str| {
        std::fs::write(path(name), contents).unwrap();
        let failed = uf2(&[&path("no.uf2"), &image, &path(name)], &[]).unwrap();
        let text = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert!(!failed.status.success() && text.contains(expected), "{text}");
        assert!(!path("no.uf2").exists());
    };
    fails("twice", &elf(START + 999, &[1]), "0x263e7 is written twice");
    fails("low", &elf(0x1000, &[1]), "0x1000 is not between 0x26000 and 0xad000");
    fails("high", &elf(0xacfff, &[1, 2]), "0xad000 is not between");
    fails("damaged", HEX.replace("424C", "424D").as_bytes(), "line 2 is no record");
    fails("other", b"#!/bin/sh\n", "neither ELF for a board nor Intel HEX");
}

#[test]
fn the_image_fits_and_its_file_is_whole() {
    let Some(relay) = image("BOARD_IMAGE", "relay") else { return };
    let image = relay.with_file_name("relay-rak4631");
    let (flash, memory) = sizes(&image);
    hold("RAK4631: flash, bytes", flash);
    hold("RAK4631: static memory, bytes", memory);
    let dir = tempfile::tempdir().unwrap();
    let (out, binary) = (dir.path().join("out.uf2"), dir.path().join("binary"));
    let mut objcopy = Command::new("arm-none-eabi-objcopy");
    objcopy.args(["-O", "binary"]).args([&image, &binary]);
    assert!(objcopy.status().unwrap().success());
    let Some(made) = uf2(&[&out, &image], &[]) else { return };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (written, expected) = (read(&std::fs::read(&out).unwrap()), std::fs::read(binary).unwrap());
    assert_eq!(bytes(&written, START, expected.len()), expected);
    // The first words are the stack and the way in, as the bootloader wants them.
    let (stack, entry) = (word(&expected, 0), word(&expected, 4));
    assert!(stack == 0x2004_0000 && (START..STORE).contains(&entry) && entry % 2 == 1);
}
