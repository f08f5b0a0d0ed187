//! What a sender of transactions and a gateway say to each other: Bitcoin's own messages, each
//! behind a control message (`control.rs`) that names the hand-over.
//!
//! | from | message | meaning |
//! |---|---|---|
//! | sender | `tx` | pass it on |
//! | sender | `getdata` | what became of it? |
//! | gateway | `inv` | the node has taken it |
//! | gateway | `reject` (BIP 61) | the node refuses it, and why |
//! | gateway | `merkleblock` (BIP 37) | it is in this block |
//! | gateway | `notfound` | the node does not have it |

use super::control::{Control, Flags, Kind};
use super::message::{self, Magic};
use bitcoin::consensus::{Decodable, deserialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, MerkleBlock, Transaction, Txid};

/// Weight up to which nodes relay a transaction (Bitcoin Core, MAX_STANDARD_TX_WEIGHT).
const MOST_WEIGHT: u64 = 400_000;
/// Bytes of any of these messages.
pub(crate) const MAX_LEN: usize = MOST_WEIGHT as usize + 4096;
/// Type of a transaction in an inventory.
const MSG_TX: u32 = 1;
/// Code of a `reject` (BIP 61) for what breaks a rule, or for no reason that is known.
pub(crate) const INVALID: u8 = 0x10;
/// Longest reason in a `reject` (Bitcoin Core 0.19, MAX_REJECT_MESSAGE_LENGTH).
const MOST_REASON: usize = 111;

/// Why something cannot be sent as a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotATransaction {
    /// The text is not hex.
    #[error("it is not in hex: {0}")]
    Hex(String),
    /// The bytes are not a transaction.
    #[error("it is not a transaction: {0}")]
    Encoding(String),
    /// It breaks a rule that needs no chain to see.
    #[error("no node takes it: {0}")]
    Invalid(String),
    /// No node relays it.
    #[error("its weight is {0}, and nodes relay at most {MOST_WEIGHT} weight units")]
    TooLarge(u64),
}

/// Reads and checks a transaction in hex.
///
/// # Errors
/// What is wrong with it, as far as that shows without the chain.
pub fn read(text: &str) -> Result<Transaction, NotATransaction> {
    let bytes = hex::decode(text.trim()).map_err(|e| NotATransaction::Hex(e.to_string()))?;
    let transaction: Transaction =
        deserialize(&bytes).map_err(|e| NotATransaction::Encoding(e.to_string()))?;
    let weight = transaction.weight().to_wu();
    if weight > MOST_WEIGHT {
        return Err(NotATransaction::TooLarge(weight));
    }
    if transaction.is_coinbase() {
        let reason = "it is the first transaction of a block, which only the block carries";
        return Err(NotATransaction::Invalid(reason.into()));
    }
    let mut framed = Vec::new();
    let magic = blvm_mesh_core::id::Network::Mainnet.magic();
    message::write(magic, "tx", &bytes, &mut framed);
    match blvm_mesh_core::policy::detect::explain(&framed, Default::default()) {
        Ok(_) => Ok(transaction),
        Err(why) => Err(NotATransaction::Invalid(why.reason.to_string())),
    }
}

/// What a gateway says of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Its node has taken it.
    Accepted,
    /// Its node refuses it.
    Rejected { code: u8, reason: String },
    /// It is in a block: the proof, as in a `merkleblock`.
    Confirmed { proof: Vec<u8> },
    /// Its node does not have it.
    Unknown,
}

/// What a datagram about a transaction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Submit(Vec<u8>),
    Ask(Txid),
    Answer(Txid, Answer),
}

fn frame(magic: Magic, id: u64, command: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Control::of(Kind::Transaction, id, Flags::default()).write(magic, &mut out);
    message::write(magic, command, payload, &mut out);
    out
}

fn inventory(txid: &Txid) -> Vec<u8> {
    [&[1][..], &MSG_TX.to_le_bytes(), txid.as_byte_array()].concat()
}

/// What a terminal shows as it is, whoever wrote it.
fn printable(text: &[u8]) -> String {
    let shown = text.iter().filter(|byte| matches!(byte, b' '..=b'~'));
    shown.take(MOST_REASON).map(|byte| char::from(*byte)).collect()
}

/// The datagram that hands a transaction over.
pub(crate) fn submit(magic: Magic, id: u64, transaction: &[u8]) -> Vec<u8> {
    frame(magic, id, "tx", transaction)
}

/// The datagram that asks what became of it.
pub(crate) fn ask(magic: Magic, id: u64, txid: &Txid) -> Vec<u8> {
    frame(magic, id, "getdata", &inventory(txid))
}

/// The datagram of an answer.
pub(crate) fn answer(magic: Magic, id: u64, txid: &Txid, answer: &Answer) -> Vec<u8> {
    match answer {
        Answer::Accepted => frame(magic, id, "inv", &inventory(txid)),
        Answer::Unknown => frame(magic, id, "notfound", &inventory(txid)),
        Answer::Confirmed { proof } => frame(magic, id, "merkleblock", proof),
        Answer::Rejected { code, reason } => {
            let reason = printable(reason.as_bytes());
            let mut payload = b"\x02tx".to_vec();
            payload.extend_from_slice(&[*code, reason.len() as u8]);
            payload.extend_from_slice(reason.as_bytes());
            payload.extend_from_slice(txid.as_byte_array());
            frame(magic, id, "reject", &payload)
        }
    }
}

/// What the messages behind a control message of this kind say; `None`: nothing of this.
/// `expected` is the transaction that an answer is about. What is framed for another network counts
/// for nothing: the proof of work in it was held against that network's rules on the way.
pub(crate) fn said(magic: Magic, messages: &[u8], expected: Option<Txid>) -> Option<Said> {
    let (first, rest) = message::split(messages)?;
    first.strip_prefix(&magic)?;
    let payload = message::payload(first);
    let listed = || {
        let txid = payload.strip_prefix(&[1])?.strip_prefix(&MSG_TX.to_le_bytes())?;
        Some(Txid::from_byte_array(txid.try_into().ok()?))
    };
    if !rest.is_empty() {
        return None;
    }
    Some(match message::command(first) {
        "tx" => Said::Submit(payload.to_vec()),
        "getdata" => Said::Ask(listed()?),
        "inv" => Said::Answer(listed()?, Answer::Accepted),
        "notfound" => Said::Answer(listed()?, Answer::Unknown),
        "reject" => {
            let rest = payload.strip_prefix(b"\x02tx")?;
            let ([code, len], rest) = rest.split_first_chunk()?;
            let (reason, txid) = rest.split_at_checked(usize::from(*len))?;
            let txid = Txid::from_byte_array(txid.try_into().ok()?);
            let reason = printable(reason);
            Said::Answer(txid, Answer::Rejected { code: *code, reason })
        }
        "merkleblock" => {
            let txid = expected?;
            block_of(payload, &txid)?;
            Said::Answer(txid, Answer::Confirmed { proof: payload.to_vec() })
        }
        _ => return None,
    })
}

/// The block in which a proof shows a transaction, whose header satisfies its own target.
pub(crate) fn block_of(proof: &[u8], txid: &Txid) -> Option<BlockHash> {
    let mut bytes = proof;
    let block = MerkleBlock::consensus_decode(&mut bytes).ok()?;
    let (mut found, mut places) = (Vec::new(), Vec::new());
    block.extract_matches(&mut found, &mut places).ok()?;
    let hash = block.header.validate_pow(block.header.target()).ok()?;
    (bytes.is_empty() && found.contains(txid)).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::serialize;
    use proptest::prelude::*;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    fn txid(n: u8) -> Txid {
        Txid::from_byte_array([n; 32])
    }

    fn read_back(datagram: &[u8], expected: Option<Txid>) -> Option<Said> {
        let (control, messages) = Control::read(MAGIC, datagram).unwrap();
        assert_eq!((control.kind, control.id), (Kind::Transaction, 9));
        said(MAGIC, messages, expected)
    }

    #[test]
    fn what_is_said_is_understood() {
        let given = submit(MAGIC, 9, b"some transaction");
        assert_eq!(read_back(&given, None), Some(Said::Submit(b"some transaction".to_vec())));
        let asked = ask(MAGIC, 9, &txid(3));
        assert_eq!(read_back(&asked, None), Some(Said::Ask(txid(3))));
        let long = "x".repeat(300);
        for (told, heard) in [
            (Answer::Accepted, Answer::Accepted),
            (Answer::Unknown, Answer::Unknown),
            (
                Answer::Rejected { code: 0x42, reason: "min relay fee\nnot met".into() },
                Answer::Rejected { code: 0x42, reason: "min relay feenot met".into() },
            ),
            (
                Answer::Rejected { code: 1, reason: long.clone() },
                Answer::Rejected { code: 1, reason: long[..MOST_REASON].into() },
            ),
        ] {
            let datagram = answer(MAGIC, 9, &txid(4), &told);
            assert_eq!(read_back(&datagram, None), Some(Said::Answer(txid(4), heard)));
        }
    }

    #[test]
    fn a_confirmation_is_taken_only_with_its_proof() {
        let block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        let id = block.txdata[0].compute_txid();
        let proof = serialize(&MerkleBlock::from_block_with_predicate(&block, |t| *t == id));
        let datagram = answer(MAGIC, 9, &id, &Answer::Confirmed { proof: proof.clone() });
        assert!(matches!(read_back(&datagram, Some(id)), Some(Said::Answer(..))));
        assert_eq!(read_back(&datagram, Some(txid(1))), None, "it is about another");
        assert_eq!(read_back(&datagram, None), None);
        assert_eq!(block_of(&proof, &id), Some(block.block_hash()));
        for place in 0..proof.len() {
            let mut bad = proof.clone();
            bad[place] ^= 1;
            // Of the header a few bits may be others and the work still suffice on regtest.
            assert!(place < 80 || block_of(&bad, &id).is_none(), "{place}");
        }
        let none = serialize(&MerkleBlock::from_block_with_predicate(&block, |_| false));
        assert_eq!(block_of(&none, &id), None);
    }

    #[test]
    fn a_lying_gateway_says_nothing_with_another_networks_frames_nor_to_the_terminal() {
        let mut foreign = Vec::new();
        message::write([9, 8, 7, 6], "inv", &inventory(&txid(1)), &mut foreign);
        assert_eq!(said(MAGIC, &foreign, Some(txid(1))), None);
        let mut rejected = Vec::new();
        let payload = [&b"\x02tx\x10\x07a\x1b[2Jb\n"[..], txid(1).as_byte_array()].concat();
        message::write(MAGIC, "reject", &payload, &mut rejected);
        let heard = Answer::Rejected { code: 0x10, reason: "a[2Jb".into() };
        assert_eq!(said(MAGIC, &rejected, None), Some(Said::Answer(txid(1), heard)));
    }

    #[test]
    fn what_is_no_transaction_is_told_in_words() {
        let good = "0200000001aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
                    0000000000ffffffff01e8030000000000000151 00000000"
            .replace(' ', "");
        assert!(read(&good).is_ok(), "{:?}", read(&good));
        let coinbase = "01000000010000000000000000000000000000000000000000000000000000000000000000\
                        ffffffff0100ffffffff0100000000000000000000000000";
        for (text, expected) in [
            ("xyz", "not in hex"),
            ("00", "not a transaction"),
            (&good[..good.len() - 2], "not a transaction"),
            (&format!("{good}00"), "not a transaction"),
            (coinbase, "first transaction of a block"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_messages_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for command in ["tx", "getdata", "inv", "notfound", "reject", "merkleblock"] {
                let mut framed = Vec::new();
                message::write(MAGIC, command, &bytes, &mut framed);
                let _ = said(MAGIC, &framed, Some(txid(1)));
            }
            let _ = said(MAGIC, &bytes, None);
        }
    }
}
