//! What the documentation says of methods and keys is made from their tables.
//!
//! `UPDATE_DOCS=1 cargo test -p blvm-mesh --lib documents` writes it.

use crate::config::{KEYS, Key};
use crate::rpc::error::ERRORS;
use crate::rpc::openrpc::Document;
use crate::rpc::request::METHODS;
use std::path::Path;

/// Holds a page to what it should be, or makes it so.
fn keep(page: &str, make: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let expected = make(&there);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    let mut lines = there.lines().zip(expected.lines());
    let other = lines.find(|(there, expected)| there != expected);
    assert!(
        there == expected,
        "docs/{page} is not what the tables say; `UPDATE_DOCS=1 cargo test -p blvm-mesh --lib \
         documents` writes it anew. The first lines that differ: {other:#?}"
    );
}

/// Puts what was made between its marks.
fn between_marks(page: &str, name: &str, made: &str) -> String {
    let (begin, end) = (format!("<!-- made from the table: {name} -->\n"), "<!-- end -->\n");
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("{begin} is missing"));
    let (_, after) = rest.split_once(end).unwrap_or_else(|| panic!("{name} has no end"));
    format!("{before}{begin}\n{made}\n{end}{after}")
}

fn table(heading: &str, rows: impl Iterator<Item = Vec<String>>) -> String {
    let columns = heading.matches('|').count() - 1;
    let rows = rows.map(|cells| {
        assert_eq!(cells.len(), columns, "{cells:?}");
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let line: String = cells.iter().map(|cell| format!("| {cell} ")).collect();
        line.replace("|  ", "| ") + "|\n"
    });
    format!("{heading}\n{}|\n{}", "|---".repeat(columns), rows.collect::<String>())
}

/// As code, unless there is nothing.
fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

fn methods() -> String {
    let rows = METHODS.iter().map(|method| {
        let aliases: Vec<_> = method.aliases.iter().map(|alias| code(alias)).collect();
        let errors: Vec<_> = method.errors.iter().map(|code| code.to_string()).collect();
        let about = format!("{} {}", method.summary(), method.description());
        vec![code(method.name), aliases.join(", "), about.trim().into(), errors.join(", ")]
    });
    table("| method | also known as | what it does | errors |", rows)
}

fn parameters() -> String {
    let document = Document::new();
    let rows = METHODS.iter().flat_map(|method| {
        document.parameters(method).into_iter().map(|p| {
            let default = match (p.required, p.default) {
                (true, _) => "required".into(),
                (false, default) => code(&default.unwrap_or_default()),
            };
            vec![code(method.name), code(&p.name), p.kind, default, p.about]
        })
    });
    table("| method | parameter | type | default | meaning |", rows)
}

fn events() -> String {
    let rows = Document::new().events().into_iter().map(|(kind, about, fields)| {
        let fields: Vec<_> = fields.iter().map(|field| code(field)).collect();
        vec![code(&kind), about, fields.join(", ")]
    });
    table("| event | what it says | fields |", rows)
}

fn errors() -> String {
    let rows = ERRORS.iter().map(|e| vec![e.code.to_string(), e.meaning.into()]);
    table("| code | meaning |", rows)
}

fn keys() -> String {
    let rows = KEYS.iter().map(|key: &Key| {
        let default = key.defaults().into_iter().map(|(network, value)| match network {
            Some(network) => format!("on {network} `{value}`"),
            None => code(&value),
        });
        let default = default.collect::<Vec<_>>().join("; ");
        let live = if key.is_live() { "yes" } else { "" };
        let (meaning, unit) = (key.meaning.into(), key.unit.into());
        vec![code(&key.dotted()), meaning, unit, default, key.allowed(), live.into()]
    });
    table("| key | meaning | unit | default | allowed | at run time |", rows)
}

#[test]
fn documents_follow_from_the_tables() {
    keep("openrpc.json", |_| serde_json::to_string_pretty(&Document::new()).unwrap() + "\n");
    keep("CLI.md", |page| {
        let page = between_marks(page, "methods", &methods());
        let page = between_marks(&page, "parameters", &parameters());
        let page = between_marks(&page, "events", &events());
        let page = between_marks(&page, "errors", &errors());
        between_marks(&page, "keys", &keys())
    });
}
