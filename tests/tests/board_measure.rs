//! What the board costs, in instructions that QEMU counts, and whether it does what a
//! host does. `BOARD_MEASURE` names the image `measure`; without it the image is built, and
//! where it cannot be, the tests that need it are skipped.

use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::mesh::HostMesh;
use blvm_mesh_core::mesh::Mesh;
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::tables::Boxed;
use blvm_mesh_core::time::Micros;
use blvm_mesh_embedded::recording::{Moment, Recording, trace, write_start};
use blvm_mesh_tests::board::hold;
use blvm_mesh_tests::packets::payloads::version_message;
use blvm_mesh_tests::scenarios::relay::{FROM, KEY, Relay, SEED, secret};
use blvm_mesh_tests::sim::{Input, Plan};

use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of the free datagram.
const SIZE: usize = 235;
/// Largest packet that is played.
const ROOM: usize = 4096;

fn image() -> Option<PathBuf> {
    blvm_mesh_tests::board::image("BOARD_MEASURE", "measure")
}

/// What the image says of a recording.
fn run(image: &Path, name: &str, what: &str, recording: &[u8]) -> Vec<String> {
    let file = std::env::temp_dir().join(format!("blvm-mesh-{}-{name}", std::process::id()));
    let len = u32::try_from(recording.len()).unwrap();
    std::fs::write(&file, [&len.to_le_bytes(), recording].concat()).unwrap();
    let mut qemu = Command::new("timeout");
    qemu.args(["300", "qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none"]);
    qemu.args(["-serial", "null", "-icount", "shift=0", "-kernel"]);
    qemu.arg(image).arg("-device");
    qemu.arg(format!("loader,file={},addr=0x20100000,force-raw=on", file.display()));
    let semihosting = format!("enable=on,target=native,arg=measure,arg={what}");
    let out = qemu.args(["-semihosting-config", &semihosting]).output();
    let out = out.expect("qemu-system-arm is installed");
    std::fs::remove_file(&file).unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stderr));
    said.lines().map(str::to_string).collect()
}

fn record(config: &Config, key: u8, seed: &[u8; 32], inputs: &[(bool, u64, Input)]) -> Vec<u8> {
    let mut out = Vec::new();
    write_start(config, &secret(key), seed, &mut |bytes| out.extend_from_slice(bytes));
    for (marked, now, input) in inputs {
        write_input(*marked, *now, input, &mut out);
    }
    out
}

fn write_input(marked: bool, now: Micros, input: &Input, out: &mut Vec<u8>) {
    // `Moment` borrows its bytes; in postcard's form that makes no difference.
    let bytes = postcard::to_allocvec(&(marked, now, input)).unwrap();
    out.extend_from_slice(&bytes);
}

/// The trace as a host has it, which is the same in either memory.
fn on_host(recording: &[u8]) -> String {
    let read = || Recording::read(recording).expect("it is a recording");
    let mut room = vec![0; ROOM];
    let Recording { config, key, seed, .. } = read();
    let mut heap = HostMesh::new(config.clone(), key, seed);
    let (hash, inputs) = trace(&mut heap, read(), &mut room).expect("all is read");
    let mut fixed = Mesh::<Boxed>::new(config, key, seed);
    assert_eq!(trace(&mut fixed, read(), &mut room), Some((hash, inputs)));
    format!("trace {} of {inputs} inputs", hex::encode(hash))
}

/// The life of one node in a simulated world, as far as it fits a board.
fn life(seed: u64) -> Vec<u8> {
    let plan = Plan { record: true, ..Plan::drawn(seed) };
    let world = plan.live(&mut |_| {}, None).expect("a world").world;
    let busiest = world.nodes.iter().max_by_key(|node| node.record.as_ref().map(Vec::len));
    let node = busiest.expect("a world has nodes");
    let fits = |input: &Input| match input {
        Input::MessageReceived { packet: bytes, .. } | Input::Resumed { packet: bytes, .. } => {
            bytes.len() <= ROOM
        }
        _ => true,
    };
    let mut out = Vec::new();
    write_start(&node.config, &node.key, &node.seed, &mut |b| out.extend_from_slice(b));
    for (at, input) in node.record.iter().flatten().take_while(|(_, input)| fits(input)) {
        write_input(false, *at, input, &mut out);
    }
    out
}

#[test]
fn a_recording_reads_back_as_it_was_written() {
    let recording = life(2000);
    let mut read = Recording::read(&recording).expect("it is a recording");
    let mut again = Vec::new();
    write_start(&read.config, &read.key, &read.seed, &mut |b| again.extend_from_slice(b));
    while let Some(moment) = read.next_moment() {
        again.extend_from_slice(&postcard::to_allocvec::<Moment<'_>>(&moment).unwrap());
    }
    assert!(read.is_done());
    assert!(again == recording);
    let cut = &recording[..recording.len() - 1];
    let read = Recording::read(cut).expect("its start is whole");
    let mut fixed = Mesh::<Boxed>::new(read.config.clone(), read.key, read.seed);
    assert_eq!(trace(&mut fixed, read, &mut [0; ROOM]), None);
}

#[test]
fn the_image_signs_as_published() {
    let Some(image) = image() else { return };
    let signed = run(&image, "sign", "sign", &[]);
    // BIP 340, test vector 0; RFC 6979 on secp256k1 with the key 1 and "Satoshi Nakamoto".
    let bip_340 = "e907831f80848d1069a5371b402410364bdf1c5f8307b0084c55f1ce2dca8215\
                   25f66a4a85ea8b71e482a74f382d2ce5ebeee8fdb2172f477df4900d310536c0";
    let rfc_6979 = "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8\
                    2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5";
    assert_eq!(signed, [format!("BIP 340: {bip_340}"), format!("RFC 6979: {rfc_6979}")]);
}

#[test]
fn the_image_does_what_a_host_does() {
    for seed in [2000, 2003] {
        let recording = life(seed);
        let host = on_host(&recording);
        println!("host: {host}");
        if let Some(image) = image() {
            assert_eq!(run(&image, "trace", "trace", &recording), [host]);
        }
    }
}

#[test]
fn the_image_keeps_its_budget_of_instructions() {
    let mut config = Config::board(Network::Regtest, 1280);
    config.payment.volatile = false;
    let mut relay = Relay::with(MeshMode::PaymentGated, config);
    let mut inputs: Vec<_> = relay.opening().into_iter().map(|input| (false, 0, input)).collect();
    let mut come = |bytes| {
        inputs.push((true, 0, Input::MessageReceived { link: FROM, packet: Vec::into(bytes) }));
        inputs.len() - 1
    };
    let free = version_message(SIZE - 100);
    // The first packet finds caches and tables as they are at the start.
    come(relay.packet(1, &free, &[]));
    let plain = come(relay.packet(2, &free, &[]));
    let proof = relay.pay(&[0x55; 64]);
    let paid = come(relay.packet(3, &[0x55; 64], &proof));
    let replay = come(relay.packet(4, &[0x55; 64], &proof));
    let pay = come(relay.pay_for(5, 1 << 20));
    let open = come(relay.open());
    come(relay.data(SIZE));
    let data = come(relay.data(SIZE));
    for (n, (_, now, _)) in inputs.iter_mut().enumerate() {
        *now = n as u64;
    }
    let recording = record(relay.mesh.config(), KEY, &SEED, &inputs);
    // What is measured is what should happen.
    let read = Recording::read(&recording).unwrap();
    let mut mesh = Box::new(Mesh::<Boxed>::new(read.config.clone(), read.key, read.seed));
    trace(&mut mesh, read, &mut [0; ROOM]).expect("all is read");
    let stats = mesh.stats();
    assert_eq!((stats.relayed_free, stats.relayed_paid, stats.refused_replay), (2, 3, 1));
    assert_eq!((mesh.live_payments(), mesh.accounts().count(), mesh.flows().count()), (1, 1, 1));

    let Some(image) = image() else { return };
    assert_eq!(run(&image, "flow", "trace", &recording), [on_host(&recording)]);
    let said = run(&image, "count", "count", &recording);
    said.iter().for_each(|line| println!("board: {line}"));
    let of = |what: &str| -> u64 {
        let line = said.iter().find_map(|line| line.strip_prefix(&format!("{what}: ")));
        let line = line.unwrap_or_else(|| panic!("the image did not say '{what}'"));
        line.split(' ').next().unwrap().parse().expect("a number of instructions")
    };
    let relayed = of(&format!("input {plain}"));
    hold("free datagram of 235 bytes, links apart", relayed);
    let links = of(&format!("links of {plain}"));
    hold("the same, decrypted and encrypted again", relayed + links);
    hold("Lightning proof, verified for the first time", of(&format!("proof of {paid}")));
    hold("paid datagram: its proof and its source's signature", of(&format!("input {paid}")));
    hold("the same payment again, refused", of(&format!("input {replay}")));
    hold("ticket and preimage of a Pay, verified", of(&format!("ticket of {pay}")));
    hold("Pay: the same, its credit and its answer", of(&format!("input {pay}")));
    hold("Open: its source's signature", of(&format!("input {open}")));
    hold("Data on a flow, 235 bytes, links apart", of(&format!("input {data}")));
    // The test `board` measures the whole stack with a paid datagram, which takes the most.
    let deepest = of(&format!("stack of {paid}"));
    for other in [pay, open, data] {
        assert!(of(&format!("stack of {other}")) <= deepest);
    }
    hold("look into a full replay table", of("replay check among 128"));
    hold("handshake of the end that dials", of("handshake, dialling"));
    hold("handshake of the end that listens", of("handshake, listening"));
}
