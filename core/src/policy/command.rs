//! The commands of Bitcoin's P2P protocol that are recognised.

use super::reason::Reason;

/// Whose traffic a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bitcoin's own protocol.
    Bitcoin,
    /// Commons governance, in the same framing.
    Governance,
}

/// Longest payload of a message (Bitcoin Core, MAX_PROTOCOL_MESSAGE_LENGTH).
pub(super) const MAX_PAYLOAD: u32 = 4_000_000;

/// Longest governance payload. Nothing published bounds it; a list of a
/// thousand banned peers fits, and bulk data does not.
pub(super) const MAX_GOVERNANCE: u32 = 64 * 1024;

/// A name as it stands in a message: followed by zeros. What exceeds 12 bytes is left out.
const fn padded(name: &[u8]) -> [u8; 12] {
    let mut field = [0; 12];
    let mut rest = name;
    let mut to: &mut [u8] = &mut field;
    while let ([first, others @ ..], [slot, room @ ..]) = (rest, to) {
        *slot = *first;
        (rest, to) = (others, room);
    }
    field
}

macro_rules! commands {
    ($($variant:ident $name:literal $least:literal $most:expr, $kind:ident;)*) => {
        /// A known command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Command { $($variant),* }

        impl Command {
            /// Every known command.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$variant),*];

            /// Names with their padding, in order, and their commands.
            const NAMES: &[([u8; 12], Self)] = &[$((padded($name), Self::$variant)),*];

            /// Its name, without padding.
            #[cfg(test)]
            pub(super) const fn name(self) -> &'static [u8] {
                match self { $(Self::$variant => $name),* }
            }

            /// Shortest and longest payload, in bytes. What is fixed inside of
            /// these is checked with the payload's structure.
            pub(super) const fn payload_range(self) -> (u32, u32) {
                match self { $(Self::$variant => ($least, $most)),* }
            }

            /// Whose traffic it is.
            pub(super) const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind),* }
            }
        }
    };
}

// In the order of the names. Least and most are those of the structures in `messages`.
commands! {
    Addr b"addr" 1 3 + 1_000 * 30, Bitcoin;
    AddrV2 b"addrv2" 1 3 + 1_000 * (4 + 9 + 1 + 3 + 512 + 2), Bitcoin;
    Alert b"alert" 168 168, Bitcoin;
    BanList b"banlist" 0 MAX_GOVERNANCE, Governance;
    Block b"block" 141 MAX_PAYLOAD, Bitcoin;
    BlockTxn b"blocktxn" 33 MAX_PAYLOAD, Bitcoin;
    CFCheckpt b"cfcheckpt" 34 33 + 3 + 10_000 * 32, Bitcoin;
    CFHeaders b"cfheaders" 66 65 + 3 + 2_000 * 32, Bitcoin;
    CFilter b"cfilter" 35 MAX_PAYLOAD, Bitcoin;
    CmpctBlock b"cmpctblock" 90 MAX_PAYLOAD, Bitcoin;
    EconFork b"econfork" 0 MAX_GOVERNANCE, Governance;
    EconReg b"econreg" 0 MAX_GOVERNANCE, Governance;
    EconStatus b"econstatus" 0 MAX_GOVERNANCE, Governance;
    EconVeto b"econveto" 0 MAX_GOVERNANCE, Governance;
    Feature b"feature" 6 1 + 80 + 3 + 512, Bitcoin;
    FeeFilter b"feefilter" 8 8, Bitcoin;
    FilterAdd b"filteradd" 1 3 + 520, Bitcoin;
    FilterClear b"filterclear" 0 0, Bitcoin;
    FilterLoad b"filterload" 10 3 + 36_000 + 9, Bitcoin;
    GetAddr b"getaddr" 0 0, Bitcoin;
    GetBanList b"getbanlist" 0 256, Governance;
    GetBlocks b"getblocks" 37 4 + 1 + 101 * 32 + 32, Bitcoin;
    GetBlockTxn b"getblocktxn" 33 32 + 3 + 16_666 * 3, Bitcoin;
    GetCFCheckpt b"getcfcheckpt" 33 33, Bitcoin;
    GetCFHeaders b"getcfheaders" 37 37, Bitcoin;
    GetCFilters b"getcfilters" 37 37, Bitcoin;
    GetData b"getdata" 1 3 + 50_000 * 36, Bitcoin;
    GetHeaders b"getheaders" 37 4 + 1 + 101 * 32 + 32, Bitcoin;
    Headers b"headers" 1 3 + 2_000 * 81, Bitcoin;
    Inv b"inv" 1 3 + 50_000 * 36, Bitcoin;
    Mempool b"mempool" 0 0, Bitcoin;
    MerkleBlock b"merkleblock" 119 84 + 3 + 16_666 * 32 + 3 + 4_169, Bitcoin;
    NotFound b"notfound" 1 3 + 50_000 * 36, Bitcoin;
    Ping b"ping" 0 8, Bitcoin;
    Pong b"pong" 0 8, Bitcoin;
    Reject b"reject" 3 1 + 12 + 1 + 1 + 111 + 32, Bitcoin;
    SendAddrV2 b"sendaddrv2" 0 0, Bitcoin;
    SendCmpct b"sendcmpct" 9 9, Bitcoin;
    SendHeaders b"sendheaders" 0 0, Bitcoin;
    SendTxRcncl b"sendtxrcncl" 12 12, Bitcoin;
    Tx b"tx" 60 MAX_PAYLOAD, Bitcoin;
    Verack b"verack" 0 0, Bitcoin;
    Version b"version" 46 4 + 8 + 8 + 26 + 26 + 8 + 3 + 256 + 4 + 1, Bitcoin;
    WtxidRelay b"wtxidrelay" 0 0, Bitcoin;
}

impl Command {
    /// The command with this name, without its padding.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        let key = padded(name);
        let at = Self::NAMES.binary_search_by(|(known, _)| known.cmp(&key)).ok()?;
        let (_, command) = Self::NAMES.get(at)?;
        // Longer names than 12 bytes are cut; zeros at the end are no part of one.
        (name.len() <= key.len() && name.last() != Some(&0)).then_some(*command)
    }

    /// The command in a message header: a known name, then zeros.
    pub(super) fn from_padded(field: &[u8; 12]) -> Result<Self, Reason> {
        let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
        let (name, padding) = field.split_at(end);
        if name == b"mesh" {
            return Err(Reason::MeshCommand);
        }
        let command = Self::from_name(name).ok_or(Reason::UnknownCommand)?;
        if padding.iter().any(|&b| b != 0) {
            return Err(Reason::CommandPadding);
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_padding_counts() {
        for &command in Command::ALL {
            let name = command.name();
            let mut field = [0; 12];
            field[..name.len()].copy_from_slice(name);
            assert_eq!(Command::from_padded(&field), Ok(command));
            let (least, most) = command.payload_range();
            assert!(least <= most && most <= MAX_PAYLOAD);
            for at in name.len()..12 {
                let mut bad = field;
                bad[at] = b'x';
                assert!(Command::from_padded(&bad).is_err(), "{name:?} {at}");
            }
        }
        assert!(Command::NAMES.is_sorted_by(|(a, _), (b, _)| a < b));
        assert_eq!(Command::from_name(b"filterclearxx"), None);
        assert_eq!(Command::from_name(b"ping\0"), None);
        assert_eq!(Command::from_padded(b"ping\0\0\0\0\0\0\0x"), Err(Reason::CommandPadding));
        assert_eq!(Command::from_padded(b"mesh\0\0\0\0\0\0\0\0"), Err(Reason::MeshCommand));
        assert_eq!(Command::from_padded(&[0; 12]), Err(Reason::UnknownCommand));
        assert_eq!(Command::from_padded(b"PING\0\0\0\0\0\0\0\0"), Err(Reason::UnknownCommand));
    }
}
