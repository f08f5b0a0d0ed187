//! What `docs/PROTOCOL.md` says of a channel that many share is true.

#[allow(dead_code)]
mod document;

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::channel::frame::{
    self, Address, Content, Frame, TagKey, write_announcement, write_beacon, write_packet,
};
use blvm_mesh_core::link::channel::{CANDIDATES, ChannelLimits, lora::Modem};
use blvm_mesh_core::time::SECOND;
use document::{DOCUMENT, example};
use secp256k1::{Keypair, Secp256k1};

#[test]
fn frames_to_all() {
    let key = Keypair::from_seckey_byte_array(&Secp256k1::new(), [0x11; 32]).unwrap().public_key();
    let from = Address::of(&NodeId::from_public_key(&key));
    let [channel, group] = [0x31, 0x32].map(|byte| TagKey::new([byte; 32]));
    let mut out = [0; 255];
    let len = write_beacon(from, 7, &group, &mut out).unwrap();
    assert_eq!(hex::encode(&out[..len]), hex::encode(example("Beacon")));
    assert_eq!(len, frame::BEACON_LEN);
    let len = write_announcement(from, 8, &key.serialize(), &channel, &group, &mut out).unwrap();
    assert_eq!(hex::encode(&out[..len]), hex::encode(example("Announcement")));
    assert_eq!(len, frame::ANNOUNCEMENT_LEN);
    let packet = core::iter::once(&b"\x05hi"[..]);
    let len = write_packet(from, 9, Address(0x0102), packet, &group, &mut out).unwrap();
    assert_eq!(hex::encode(&out[..len]), hex::encode(example("Packet for all")));
    let mut bytes = example("Packet for all");
    let Some(Frame::ToAll(read)) = Frame::parse(&mut bytes) else { panic!("to all") };
    assert_eq!(read.content, Content::Packet(Address(0x0102), b"\x05hi"));
    assert!(group.is_tag(read.tagged, &read.tag) && !channel.is_tag(read.tagged, &read.tag));
}

#[test]
fn numbers() {
    let modem = Modem::SHORT;
    let limits = ChannelLimits::new(modem, 8, 1024);
    assert_eq!(
        limits.beacon_interval,
        (1000 * modem.airtime(frame::ANNOUNCEMENT_LEN)).max(60 * SECOND)
    );
    assert_eq!(limits.handshake_interval, (20 * modem.airtime(255)).min(10 * SECOND));
    assert_eq!((limits.announce_every, CANDIDATES), (4, 8));
    assert!(DOCUMENT.contains("one of 8 places for candidates"));
}
