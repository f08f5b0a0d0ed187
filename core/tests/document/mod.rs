//! Reads `docs/PROTOCOL.md`.

pub(crate) const DOCUMENT: &str = include_str!("../../../docs/PROTOCOL.md");

/// The bytes of the example under this title.
pub(crate) fn example(title: &str) -> Vec<u8> {
    let start = format!("```hex {title}\n");
    let (_, rest) = DOCUMENT.split_once(&start).unwrap_or_else(|| panic!("no example {title}"));
    let (digits, _) = rest.split_once("```").unwrap();
    hex::decode(digits.split_whitespace().collect::<String>()).unwrap()
}

/// The rows of the table with this head, cells trimmed.
pub(crate) fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = DOCUMENT.split_once(head).unwrap_or_else(|| panic!("no table {head}"));
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}
