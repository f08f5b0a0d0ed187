//! A configuration file to begin with: every key, none of them set.

use super::key::{Key, Kind};
use super::keys::KEYS;

const HEAD: &str = "\
# Configuration of blvm-mesh. Every key may be left out: `#` stands before its default, `##`
# before an example for a key that has none.
";

/// The file that `init` writes.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&line(key));
    }
    text
}

fn line(key: &Key) -> String {
    let mut defaults = key.defaults().into_iter();
    let (mark, value) = match defaults.next() {
        Some((_, default)) => ("#", default),
        None => ("##", key.example.to_owned()),
    };
    let value = match key.kind {
        Kind::Text => format!("\"{value}\""),
        Kind::Number | Kind::Flag => value,
        Kind::List => {
            let items = value.split(", ").map(|item| format!("\"{item}\""));
            format!("[{}]", items.collect::<Vec<_>>().join(", "))
        }
    };
    let allowed = Some(key.allowed()).filter(|allowed| !allowed.is_empty());
    let others = defaults.filter_map(|(network, other)| Some(format!("on {} {other}", network?)));
    let notes: Vec<_> = allowed.into_iter().chain(others).collect();
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
    format!("\n# {}{notes}\n{mark}{} = {value}\n", key.meaning(), key.name)
}
