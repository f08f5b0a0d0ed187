//! Structure of every Bitcoin message. A payload must end with its last field;
//! the caller checks that.

use super::command::Command;
use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
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
        // BIP 31: without a nonce for peers of protocol version 60,000 or less.
        Command::Ping | Command::Pong if fields.is_empty() => Ok(()),
        Command::Ping | Command::Pong => fields.take(8).map(|_| ()),
        Command::Alert => check_alert(fields),
        Command::Feature => check_feature(fields),
        Command::Version => check_version(fields),
        Command::Addr => take_each(fields, 1_000, 30),
        Command::AddrV2 => check_addrv2(fields),
        // Protocol documentation, "inv": a type and a hash. Nodes ignore types that they do
        // not know, so that new ones can come.
        Command::Inv | Command::GetData | Command::NotFound => take_each(fields, 50_000, 36),
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
        // BIP 133: satoshis per 1,000 bytes. Nodes ignore one that is out of range.
        Command::FeeFilter => fields.take(8).map(|_| ()),
        Command::SendCmpct => {
            // BIP 152: nodes ignore versions that they do not know, so that new ones can come.
            expect(fields, "announcement flag", Reader::u8, |&flag| flag <= 1)?;
            fields.take(8).map(|_| ())
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
            // Of the flags nodes look at the lowest two bits.
            fields.take(4 + 1).map(|_| ())
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

/// Protocol documentation, "version"; BIP 37 adds the flag at the end. From the sender's
/// address on, nodes do without what is not there.
fn check_version(fields: &mut Reader<'_>) -> Result<()> {
    // Bitcoin Core, MIN_PEER_PROTO_VERSION; signed on the wire.
    expect(fields, "protocol version", Reader::u32, |v| (31_800..=0x7fff_ffff).contains(v))?;
    fields.take(8 + 8 + 26)?;
    if fields.is_empty() {
        return Ok(());
    }
    fields.take(26 + 8)?;
    if fields.is_empty() {
        return Ok(());
    }
    // Bitcoin Core, MAX_SUBVERSION_LENGTH.
    fields.var_bytes_up_to(256)?;
    if fields.is_empty() {
        return Ok(());
    }
    fields.take(4)?;
    if !fields.is_empty() {
        expect(fields, "relay flag", Reader::u8, |&flag| flag <= 1)?;
    }
    Ok(())
}

/// Longest address of a network that is not known (BIP 155).
const MAX_ADDRESS: u16 = 512;

/// BIP 155. Nodes ignore addresses of networks that they do not know, so that new ones
/// can come; those of known networks have their length.
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
        let size = match fields.u8()? {
            1 => Some(4),          // IPv4
            2 | 6 | 7 => Some(16), // IPv6, CJDNS, Yggdrasil
            3 => Some(10),         // Tor v2
            4 | 5 => Some(32),     // Tor v3, I2P
            _ => None,
        };
        let length = *fields;
        let address = fields.var_bytes_up_to(MAX_ADDRESS.into())?;
        if size.is_some_and(|size: usize| address.len() != size) {
            return length.fail(Reason::Value("address's length"));
        }
        // The port.
        fields.take(2)?;
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

/// What Bitcoin Core from 0.14 on sends to peers of protocol version 70,012 or less: the
/// final alert, "Alert key compromised, upgrade required", of the greatest identifier and
/// the highest priority, which no other one replaces. The key that signs alerts has been
/// published since, so that a signature shows nothing: any other alert is refused.
const FINAL_ALERT: [u8; 168] = *b"\
    \x60\x01\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\x7f\0\0\0\0\xff\xff\xff\x7f\xfe\xff\xff\x7f\x01\xff\xff\xff\x7f\
    \0\0\0\0\xff\xff\xff\x7f\0\xff\xff\xff\x7f\0\x2fURGENT: Alert key compromised, upgrade required\0\
    \x46\x30\x44\x02\x20\x65\x3f\xeb\xd6\x41\x0f\x47\x0f\x6b\xae\x11\xca\xd1\x9c\x48\x41\x3b\xec\xb1\xac\x2c\x17\xf9\
    \x08\xfd\x0f\xd5\x3b\xdc\x3a\xbd\x52\x02\x20\x6d\x0e\x9c\x96\xfe\x88\xd4\xa0\xf0\x1e\xd9\xde\xda\xe2\xb6\xf9\xe0\
    \x0d\xa9\x4c\xad\x0f\xec\xaa\xe6\x6e\xcf\x68\x9b\xf7\x1b\x50";

fn check_alert(fields: &mut Reader<'_>) -> Result<()> {
    let expected = |alert: &&[u8; 168]| **alert == FINAL_ALERT;
    expect(fields, "alert", Reader::array, expected).map(|_| ())
}

/// BIP 434: the feature's identifier, 4 to 80 bytes, and up to 512 bytes of data.
fn check_feature(fields: &mut Reader<'_>) -> Result<()> {
    let id = *fields;
    if fields.var_bytes_up_to(80)?.len() < 4 {
        return id.fail(Reason::Value("feature's identifier"));
    }
    fields.var_bytes_up_to(512).map(|_| ())
}

/// BIP 61: the rejected command, a code, why, and a hash or nothing. Nodes of today
/// ignore all of it; the code 0 is bcoin's for its own reasons.
fn check_reject(fields: &mut Reader<'_>) -> Result<()> {
    let printable = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    let name = *fields;
    if !printable(fields.var_bytes_up_to(12)?) {
        return name.fail(Reason::Value("rejected command"));
    }
    fields.u8()?;
    // Bitcoin Core 0.19, MAX_REJECT_MESSAGE_LENGTH.
    let text = *fields;
    if !printable(fields.var_bytes_up_to(111)?) {
        return text.fail(Reason::Value("reject reason"));
    }
    if !fields.is_empty() {
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
