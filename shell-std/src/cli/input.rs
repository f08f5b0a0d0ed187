//! Bytes from a file, from standard input, or from the command line.

use super::Failure;
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// Most bytes that are read.
const MAX_INPUT: u64 = 64 * 1024 * 1024;

/// How bytes are written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Hex where everything is hex digits and white space, else binary.
    #[default]
    Auto,
    /// Hex digits and white space.
    Hex,
    /// As they stand.
    Binary,
}

/// Where bytes come from.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Input {
    /// File to read; `-` or none: standard input.
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// How the bytes are written.
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

impl Input {
    /// Reads all of it.
    pub(super) fn read(&self) -> Result<Vec<u8>, Failure> {
        let (name, bytes) = match &self.file {
            Some(path) if path.as_os_str() != "-" => {
                let name = path.display().to_string();
                let bytes = File::open(path).and_then(read_all);
                (name, bytes)
            }
            _ => ("standard input".to_owned(), read_all(std::io::stdin().lock())),
        };
        let bytes = bytes.map_err(|e| Failure(format!("{name}: {e}")))?;
        if bytes.len() as u64 > MAX_INPUT {
            return Err(Failure(format!("{name}: more than {MAX_INPUT} bytes")));
        }
        self.format.decode(bytes).map_err(|e| Failure(format!("{name}: {e}")))
    }
}

fn read_all(file: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_INPUT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Format {
    /// The bytes that are meant.
    fn decode(self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        let digits: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let is_hex = !digits.is_empty()
            && digits.len().is_multiple_of(2)
            && digits.iter().all(u8::is_ascii_hexdigit);
        match self {
            Self::Auto if !is_hex => Ok(bytes),
            Self::Binary => Ok(bytes),
            Self::Auto | Self::Hex => {
                hex::decode(&digits).map_err(|e| format!("not hex: {e}; see --format"))
            }
        }
    }
}

/// Bytes of a known number, from hex.
pub(super) fn fixed<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let bytes = hex::decode(text).map_err(|_| format!("expected {} hex digits", 2 * N))?;
    bytes.try_into().map_err(|_| format!("expected {} hex digits", 2 * N))
}

/// Bytes, from hex.
pub(super) fn bytes(text: &str) -> Result<Bytes, String> {
    hex::decode(text).map(Bytes).map_err(|e| format!("not hex: {e}"))
}

/// Bytes given on the command line. A `Vec` would be taken for a repeated flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_told_from_binary() {
        let auto = |b: &[u8]| Format::Auto.decode(b.to_vec()).unwrap();
        assert_eq!(auto(b"00 fF\n"), [0, 255]);
        assert_eq!(auto(b"00f"), b"00f", "an odd number of digits");
        assert_eq!(auto(b"0x00"), b"0x00");
        assert_eq!(auto(b"\n"), b"\n");
        assert_eq!(auto(b""), b"");
        assert_eq!(Format::Binary.decode(b"00".to_vec()).unwrap(), b"00");
        assert!(Format::Hex.decode(b"0g".to_vec()).unwrap_err().contains("--format"));
        assert_eq!(Format::Hex.decode(vec![]).unwrap(), b"");
    }
}
