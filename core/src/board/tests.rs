//! Configurations written, read and damaged.

use super::*;
use proptest::{collection::vec as any_vec, option, prelude::*};
use secp256k1::Secp256k1;
use std::{vec, vec::Vec};

fn secret(n: u8) -> SecretKey {
    SecretKey::from_byte_array([n; 32]).unwrap()
}

fn public(n: u8) -> PublicKey {
    secret(n).public_key(&Secp256k1::new())
}

fn example() -> BoardConfig {
    BoardConfig {
        key: secret(1),
        secret: [2; 32],
        network: Network::Regtest,
        mode: MeshMode::PaymentGated,
        baud: 115_200,
        tariff: Tariff { base_msat: 1000, per_kib_msat: 100 },
        keepalive_ms: 5000,
        future_skew: 300,
        clock_source: Some(NodeId([3; 32])),
        checkpoint: None,
        cashier: None,
        lines: [Role::Listen, Role::Dial(public(4))].into_iter().collect(),
        issuers: [public(5)].into_iter().collect(),
        radio: None,
    }
}

fn written(config: &BoardConfig) -> Vec<u8> {
    let mut out = vec![0; MAX_LEN];
    let len = config.write(&mut out).unwrap();
    assert_eq!(config.write(&mut out[..len - 1]), None);
    out.truncate(len);
    out
}

/// Makes the check right again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = check(bytes[8..12].try_into().unwrap(), &bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn known_bytes() {
    // The catalogue's check value of CRC-32/ISO-HDLC.
    assert_eq!(CRC.checksum(b"123456789"), 0xcbf4_3926);
    let bytes = written(&example());
    assert_eq!(bytes[..12], *b"BLVMBORD\x03\0\xc0\0");
    assert_eq!(bytes[16..80], [[1; 32], [2; 32]].concat());
    assert_eq!(bytes[80..90], [4, 1, 0x00, 0xc2, 1, 0, 0xe8, 3, 0, 0]);
    assert_eq!(bytes.len(), 16 + 0xc0);
}

#[test]
fn what_is_not_a_configuration_is_refused_with_its_reason() {
    let bytes = written(&example());
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        BoardConfig::read(&bytes).unwrap_err()
    };
    assert_eq!(BoardConfig::read(&[0xff; 999]).unwrap_err(), BoardConfigError::Missing);
    assert_eq!(BoardConfig::read(&[0; 999]).unwrap_err(), BoardConfigError::Missing);
    assert_eq!(BoardConfig::read(&[]).unwrap_err(), BoardConfigError::Missing);
    assert_eq!(read(&|b| b[8] = 1), BoardConfigError::Version(1));
    assert_eq!(read(&|b| b.truncate(100)), BoardConfigError::Length);
    assert_eq!(read(&|b| b[11] = 0xff), BoardConfigError::Length);
    let resealed = |at: usize, value: u8| {
        read(&|b| {
            b[at] = value;
            *b = sealed(core::mem::take(b));
        })
    };
    for (at, value, field) in [
        (80, 5, "network"),
        (81, 3, "mode"),
        (85, 0xff, "speed"),
        (102, 2, "clock source"),
        (135, 2, "checkpoint"),
        (136, 2, "cashier"),
        (138, 2, "line"),
        (140, 9, "key of a line's other end"),
        (207, 2, "radio channel"),
    ] {
        assert_eq!(resealed(at, value), Field(field));
    }
    assert_eq!(
        read(&|b| {
            b[94..98].fill(0);
            *b = sealed(core::mem::take(b));
        }),
        Field("keep-alive")
    );
    assert_eq!(
        read(&|b| {
            b[16..48].fill(0);
            *b = sealed(core::mem::take(b));
        }),
        Field("key")
    );
    let mut none = example();
    none.lines.clear();
    assert_eq!(BoardConfig::read(&written(&none)).unwrap_err(), Field("number of lines"));
}

#[test]
fn the_longest_fits() {
    let mut config = example();
    config.checkpoint = Some([7; 80]);
    config.cashier = Some(NodeId([8; 32]));
    config.lines = [Role::Dial(public(4)); MAX_LINES].into_iter().collect();
    config.issuers = [public(5); MAX_ISSUERS].into_iter().collect();
    config.radio = Some(radio::tests::example().bytes());
    assert_eq!(written(&config).len(), MAX_LEN);
    assert_eq!(config.config().payment.issuers, config.issuers);
}

proptest! {
    #[test]
    fn round_trip(
        secrets: [[u8; 32]; 2], network in 0u8..5, mode in 0usize..3, baud in BAUD,
        numbers: [u32; 3], keepalive_ms in 1u32.., nodes: [Option<[u8; 32]>; 2],
        checkpoint in option::of(any_vec(any::<u8>(), 80)),
        has_radio: bool,
        lines in any_vec(option::of(1u8..200), 1..=8), issuers in any_vec(1u8..200, 0..=8),
        more in any_vec(any::<u8>(), 0..9), flip: prop::sample::Index, bit in 0u8..8,
    ) {
        let config = BoardConfig {
            key: SecretKey::from_byte_array(secrets[0]).unwrap_or(secret(1)),
            secret: secrets[1],
            network: Network::from_u8(network).unwrap(),
            mode: MeshMode::ALL[mode],
            baud,
            tariff: Tariff { base_msat: numbers[0], per_kib_msat: numbers[1] },
            keepalive_ms,
            future_skew: numbers[2],
            clock_source: nodes[0].map(NodeId),
            checkpoint: checkpoint.map(|bytes| bytes.try_into().unwrap()),
            cashier: nodes[1].map(NodeId),
            lines: lines.iter().map(|n| n.map_or(Role::Listen, |n| Role::Dial(public(n)))).collect(),
            issuers: issuers.iter().map(|n| public(*n)).collect(),
            radio: has_radio.then(|| radio::tests::example().bytes()),
        };
        let mut bytes = written(&config);
        let len = bytes.len();
        bytes.extend(more);
        prop_assert!(BoardConfig::read(&bytes) == Ok(config));
        bytes[flip.index(len)] ^= 1 << bit;
        prop_assert!(BoardConfig::read(&bytes).is_err());
    }

    #[test]
    fn any_bytes(body in any_vec(any::<u8>(), 0..500)) {
        let header = [&MAGIC[..], &VERSION.to_le_bytes(), &(body.len() as u16).to_le_bytes(), &[0; 4]].concat();
        let bytes = sealed([header, body].concat());
        if let Ok(config) = BoardConfig::read(&bytes) {
            prop_assert_eq!(written(&config), bytes);
        }
    }
}
