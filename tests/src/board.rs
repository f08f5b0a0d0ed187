//! The budgets of the board image, as `docs/BOARDS.md` states them.

const DOCUMENT: &str = include_str!("../../docs/BOARDS.md");

/// The limit of one row of the table, by its first cell.
fn limit(what: &str) -> u64 {
    let row = DOCUMENT.lines().find_map(|line| line.strip_prefix(&format!("| {what} | ")));
    let cell = row.and_then(|row| row.split(" |").next());
    let digits = cell.unwrap_or_else(|| panic!("docs/BOARDS.md has no row '{what}'"));
    digits.replace(',', "").parse().expect("the limit is a number")
}

/// Prints a number with its limit, and fails above that.
pub fn hold(what: &str, number: u64) {
    let limit = limit(what);
    println!("| {what} | {limit} | {number} |");
    assert!(number > 0, "{what}: nothing was measured");
    assert!(number <= limit, "{what}: {number}, at most {limit} are allowed");
}
