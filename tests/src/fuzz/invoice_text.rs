//! Invoices as symbols, so that a changed one can be signed and summed again.
//! Nothing here is shared with the reader under test.

use bitcoin::bech32::{ByteIterExt, Fe32, Fe32IterExt, Hrp};
use bitcoin::hashes::{Hash, sha256};
use lightning_invoice::Bolt11Bech32;
use secp256k1::{Message, Secp256k1, SecretKey};

const CHARSET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const SIGNATURE_SYMBOLS: usize = 104;
const CHECKSUM_SYMBOLS: usize = 6;

/// An invoice in 5-bit symbols.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceText {
    /// The part before the separator, in lower case.
    pub hrp: String,
    /// Timestamp and fields.
    pub data: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl InvoiceText {
    /// Splits a text; characters that are no symbol stand for their low bits.
    /// The checksum is left out. `None` where there is too little of anything.
    pub fn split(text: &str) -> Option<Self> {
        let (hrp, symbols) = text.rsplit_once('1')?;
        let mut data: Vec<u8> = symbols.bytes().map(symbol).collect();
        data.truncate(data.len().checked_sub(CHECKSUM_SYMBOLS)?);
        let signature = data.split_off(data.len().checked_sub(SIGNATURE_SYMBOLS)?);
        Some(Self { hrp: hrp.to_lowercase(), data, signature })
    }

    /// What is signed (BOLT 11): the human-readable part and the data, with zero
    /// bits up to a whole byte.
    pub fn signing_hash(&self) -> [u8; 32] {
        let mut bytes = self.hrp.clone().into_bytes();
        let (mut bits, mut held) = (0u32, 0);
        for symbol in &self.data {
            (bits, held) = (bits << 5 | u32::from(*symbol), held + 5);
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        if held > 0 {
            bytes.push((bits << (8 - held)) as u8);
        }
        sha256::Hash::hash(&bytes).to_byte_array()
    }

    /// Signs it.
    pub fn sign(&mut self, key: &SecretKey) {
        let message = Message::from_digest(self.signing_hash());
        let signature = Secp256k1::signing_only().sign_ecdsa_recoverable(message, key);
        let (id, compact) = signature.serialize_compact();
        let bytes = compact.into_iter().chain([i32::from(id) as u8]);
        self.signature = bytes.bytes_to_fes().map(|fe| fe.to_u8()).collect();
    }

    /// The text with the right checksum, or none if there is no such text.
    pub fn text(&self) -> Option<String> {
        let hrp = Hrp::parse(&self.hrp).ok()?;
        let symbols = self.data.iter().chain(&self.signature);
        let symbols = symbols.map(|s| Fe32::try_from(*s).expect("5 bits"));
        Some(symbols.with_checksum::<Bolt11Bech32>(&hrp).chars().collect())
    }

    /// Tag and length of every whole field, in order.
    pub fn fields(&self) -> Vec<(u8, usize)> {
        let mut fields = Vec::new();
        let mut rest = self.data.get(7..).unwrap_or_default();
        while let [tag, high, low, data @ ..] = rest {
            let len = usize::from(*high) * 32 + usize::from(*low);
            let Some(after) = data.get(len..) else { break };
            fields.push((*tag, len));
            rest = after;
        }
        fields
    }
}

fn symbol(character: u8) -> u8 {
    let lower = character.to_ascii_lowercase();
    let at = CHARSET.iter().position(|c| *c == lower);
    at.map_or(character & 31, |at| at as u8)
}
