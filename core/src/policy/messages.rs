//! Structure of every Bitcoin message. A payload must end with its last field;
//! the caller checks that.

use super::command::Command;
use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::transaction::MAX_MONEY;
use super::work::Chain;
use super::{block, command};

type Result<T> = core::result::Result<T, Unrecognised>;

/// Reads the fields of one message's payload; true if all of them are bound to
/// proof of work that counts.
pub(super) fn check(command: Command, fields: &mut Reader<'_>, chain: Chain) -> Result<bool> {
    match command {
        Command::Headers => block::check_headers(fields, chain),
        Command::Block => block::check_block(fields, chain),
        Command::MerkleBlock => block::check_merkle_block(fields, chain),
        _ => check_other(command, fields, chain).map(|()| false),
    }
}

/// As [`check`], for all that is not.
fn check_other(command: Command, fields: &mut Reader<'_>, chain: Chain) -> Result<()> {
    match command {
        Command::FilterClear
        | Command::GetAddr
        | Command::Mempool
        | Command::SendAddrV2
        | Command::SendHeaders
        | Command::Verack
        | Command::WtxidRelay => Ok(()),
        Command::Ping | Command::Pong => fields.take(8).map(|_| ()),
        Command::Version => check_version(fields),
        Command::Addr => take_each(fields, 1_000, 30),
        Command::AddrV2 => check_addrv2(fields),
        Command::Inv => check_inventory(fields, |kind| matches!(kind, 1 | 2 | 5)),
        Command::GetData | Command::NotFound => {
            check_inventory(fields, |kind| matches!(kind, 1..=5 | 0x4000_0001..=0x4000_0003))
        }
        Command::GetBlocks | Command::GetHeaders => {
            fields.take(4)?;
            // Bitcoin Core, MAX_LOCATOR_SZ.
            take_each(fields, 101, 32)?;
            fields.take(32).map(|_| ())
        }
        Command::CmpctBlock => block::check_compact_block(fields, chain),
        Command::GetBlockTxn => block::check_get_block_txn(fields),
        Command::BlockTxn => block::check_block_txn(fields),
        Command::Tx => block::check_tx(fields),
        Command::FeeFilter => {
            // BIP 133: satoshis per 1,000 bytes, signed.
            expect(fields, "fee rate", Reader::u64, |&rate| rate <= MAX_MONEY).map(|_| ())
        }
        Command::SendCmpct => {
            // BIP 152: versions 1 and 2 exist.
            expect(fields, "announcement flag", Reader::u8, |&flag| flag <= 1)?;
            expect(fields, "compact block version", Reader::u64, |v| matches!(v, 1 | 2)).map(|_| ())
        }
        Command::SendTxRcncl => {
            // BIP 330: version, at least 1, and salt.
            expect(fields, "reconciliation version", Reader::u32, |&version| version >= 1)?;
            fields.take(8).map(|_| ())
        }
        Command::Reject => check_reject(fields),
        Command::FilterLoad => {
            // BIP 37: filter, hash functions, tweak, flags.
            fields.var_bytes_up_to(36_000)?;
            expect(fields, "number of hash functions", Reader::u32, |&n| n <= 50)?;
            fields.take(4)?;
            expect(fields, "filter flags", Reader::u8, |&flags| flags <= 2).map(|_| ())
        }
        Command::FilterAdd => fields.var_bytes_up_to(520).map(|_| ()),
        // BIP 157: filter type (0 only), start height where it has one, hash.
        Command::GetCFilters | Command::GetCFHeaders => take_after_filter_type(fields, 4 + 32),
        Command::GetCFCheckpt => take_after_filter_type(fields, 32),
        Command::CFHeaders => {
            take_after_filter_type(fields, 32 + 32)?;
            take_each(fields, 2_000, 32)
        }
        // One per 1,000 blocks: 10,000 of them are enough for ten million blocks.
        Command::CFCheckpt => {
            take_after_filter_type(fields, 32)?;
            take_each(fields, 10_000, 32)
        }
        Command::CFilter => {
            take_after_filter_type(fields, 32)?;
            check_filter(fields)
        }
        Command::BanList
        | Command::EconFork
        | Command::EconReg
        | Command::EconStatus
        | Command::EconVeto
        | Command::GetBanList
        | Command::Headers
        | Command::Block
        | Command::MerkleBlock => fields.fail(Reason::UnknownCommand),
    }
}

/// Reads a value that must satisfy a condition.
fn expect<'a, T>(
    fields: &mut Reader<'a>,
    name: &'static str,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
    good: impl FnOnce(&T) -> bool,
) -> Result<T> {
    let start = *fields;
    let value = read(fields)?;
    if good(&value) { Ok(value) } else { start.fail(Reason::Value(name)) }
}

/// A count, at most `limit`, and that many elements of `size` bytes.
fn take_each(fields: &mut Reader<'_>, limit: u32, size: usize) -> Result<()> {
    let count = fields.count(limit)? as usize;
    fields.take(count.saturating_mul(size)).map(|_| ())
}

/// The basic filter is the only one there is; then `n` bytes.
fn take_after_filter_type(fields: &mut Reader<'_>, n: usize) -> Result<()> {
    expect(fields, "filter type", Reader::u8, |&kind| kind == 0)?;
    fields.take(n).map(|_| ())
}

/// Protocol documentation, "version"; BIP 37 adds the flag at the end.
fn check_version(fields: &mut Reader<'_>) -> Result<()> {
    // Bitcoin Core, MIN_PEER_PROTO_VERSION; signed on the wire.
    expect(fields, "protocol version", Reader::u32, |v| (31_800..=0x7fff_ffff).contains(v))?;
    fields.take(8 + 8 + 26 + 26 + 8)?;
    // Bitcoin Core, MAX_SUBVERSION_LENGTH.
    fields.var_bytes_up_to(256)?;
    fields.take(4)?;
    if !fields.is_empty() {
        expect(fields, "relay flag", Reader::u8, |&flag| flag <= 1)?;
    }
    Ok(())
}

/// BIP 155. Nodes do not pass on addresses of networks that they do not know.
fn check_addrv2(fields: &mut Reader<'_>) -> Result<()> {
    let mut left = fields.count(1_000)? as usize;
    loop {
        let small = small_ipv4_addresses(fields.rest(), left);
        fields.take(small.saturating_mul(SMALL_IPV4))?;
        left = left.saturating_sub(small);
        if left == 0 {
            return Ok(());
        }
        left = left.saturating_sub(1);
        fields.take(4)?;
        fields.compact_size()?;
        let network = *fields;
        let size = match fields.u8()? {
            1 => 4,          // IPv4
            2 | 6 | 7 => 16, // IPv6, CJDNS, Yggdrasil
            3 => 10,         // Tor v2
            4 | 5 => 32,     // Tor v3, I2P
            _ => return network.fail(Reason::Value("address's network")),
        };
        // In its shortest form such a length is one byte.
        let length = *fields;
        if fields.u8()? != size {
            return length.fail(Reason::Value("address's length"));
        }
        fields.take(usize::from(size) + 2)?;
    }
}

/// Bytes of an IPv4 address whose services are one byte: time, services, network,
/// length, address, port.
const SMALL_IPV4: usize = 4 + 1 + 1 + 1 + 4 + 2;

/// How many such addresses `bytes` begins with, at most `most`. They are the smallest
/// entries, hence the most per byte; at a fixed distance none waits for the length of
/// the one before it.
fn small_ipv4_addresses(bytes: &[u8], most: usize) -> usize {
    let (entries, _) = bytes.as_chunks::<SMALL_IPV4>();
    let small = |entry: &&[u8; SMALL_IPV4]| matches!(entry, [_, _, _, _, ..0xfd, 1, 4, ..]);
    entries.iter().take(most).take_while(small).count()
}

/// Protocol documentation, "inv"; types of BIP 37, 144, 152 and 339.
fn check_inventory(fields: &mut Reader<'_>, known: impl Fn(u32) -> bool) -> Result<()> {
    for _ in 0..fields.count(50_000)? {
        let start = *fields;
        let [a, b, c, d, ..] = *fields.array::<36>()?;
        if !known(u32::from_le_bytes([a, b, c, d])) {
            return start.fail(Reason::Value("inventory type"));
        }
    }
    Ok(())
}

/// BIP 61: the rejected command, a code, why, and for blocks and transactions
/// the hash.
fn check_reject(fields: &mut Reader<'_>) -> Result<()> {
    let start = *fields;
    let name = fields.var_bytes_up_to(12)?;
    let Some(rejected) = Command::from_name(name) else {
        return start.fail(Reason::Value("rejected command"));
    };
    let known = |code: &u8| matches!(code, 0x01 | 0x10..=0x12 | 0x40..=0x43);
    expect(fields, "reject code", Reader::u8, known)?;
    // Bitcoin Core 0.19, MAX_REJECT_MESSAGE_LENGTH.
    let text = *fields;
    if !fields.var_bytes_up_to(111)?.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.fail(Reason::Value("reject reason"));
    }
    if matches!(rejected, Command::Block | Command::Tx) {
        fields.take(32)?;
    }
    Ok(())
}

/// BIP 158: the number of elements, then Golomb-Rice codes of 20 bits or more.
/// Differences sum to less than 784,931 per element, and so the unary parts to
/// less than 1.5 bits per element; the last byte is filled up.
fn check_filter(fields: &mut Reader<'_>) -> Result<()> {
    let start = *fields;
    let filter = fields.var_bytes_up_to(command::MAX_PAYLOAD)?;
    let mut codes = Reader::new(filter, fields.at().saturating_sub(filter.len()));
    let elements = codes.compact_size()?;
    let bits = (codes.rest().len() as u64).saturating_mul(8);
    let least = elements.saturating_mul(20);
    let most = elements.saturating_mul(43).div_ceil(2).saturating_add(7);
    if !(least..=most).contains(&bits) {
        return start.fail(Reason::Value("number of elements in the filter"));
    }
    Ok(())
}
