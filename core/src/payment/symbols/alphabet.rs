//! The alphabet of bech32 (BIP 173).

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// Value of each ASCII character in either case; 32 and above: not in the alphabet.
const VALUES: [u8; 128] = {
    let mut table = [0xff; 128];
    let mut i = 0;
    while i < 32 {
        table[ALPHABET[i] as usize] = i as u8;
        table[ALPHABET[i].to_ascii_uppercase() as usize] = i as u8;
        i += 1;
    }
    table
};

/// The symbol (0 to 31) that a character stands for.
pub(in crate::payment) fn symbol(character: u8) -> Option<u8> {
    VALUES.get(usize::from(character)).copied().filter(|v| *v < 32)
}

/// The lower-case character of a symbol; only the low five bits count.
pub(in crate::payment) fn character(symbol: u8) -> u8 {
    ALPHABET[usize::from(symbol & 31)]
}
