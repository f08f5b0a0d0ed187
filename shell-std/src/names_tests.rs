//! Names that programs read are pinned here, and never those that `Debug` happens to print.

use crate::rpc::types::{PurchaseState, Role};
use blvm_mesh_core::policy::DetectedProtocol;
use blvm_mesh_core::wire::Kind;
use std::path::Path;

#[test]
fn names_stay_as_they_are() {
    let protocols = ["BitcoinP2P", "CommonsGovernance", "StratumV2", "MeshPacket", "Unknown"];
    assert_eq!(DetectedProtocol::ALL.map(DetectedProtocol::name), protocols);
    let kinds: Vec<_> = (0..=u8::MAX).filter_map(Kind::from_u8).map(Kind::name).collect();
    let expected = [
        "Datagram",
        "RouteRequest",
        "RouteReply",
        "RouteError",
        "Open",
        "Data",
        "Ack",
        "Close",
        "Hello",
        "KeepAlive",
        "Opened",
        "FlowError",
    ];
    assert_eq!(kinds, expected);
    let roles = [Role::Source, Role::Intermediate, Role::Destination];
    assert_eq!(roles.map(Role::name), ["source", "intermediate", "destination"]);
    for role in roles {
        assert_eq!(serde_json::to_value(role).unwrap(), role.name());
    }
    let states = [PurchaseState::Unknown, PurchaseState::Paid, PurchaseState::Credited];
    assert_eq!(states.map(PurchaseState::name), ["unknown", "paid", "credited"]);
    for state in states {
        assert_eq!(serde_json::to_value(state).unwrap(), state.name());
    }
}

/// Lines of code in which `Debug` speaks to people: what they quote is no name.
const FOR_PEOPLE: [&str; 4] = [
    "=> format!(\"{text:?}\"),",
    "should have booked {share} msat, not {entry:?}",
    "B lacks the header, and says {other:?}",
    "self.add(field, format_args!(\"{value:?}\"));",
];

#[test]
fn nothing_is_named_by_debug() {
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut files, mut allowed) = (0, 0);
    while let Some(path) = left.pop() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            let inside = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            left.extend(inside.filter(|path| !path.ends_with("tests")));
            continue;
        }
        if name.ends_with("tests.rs") || name == "fuzz.rs" {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        // Tests are at the end of a file.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let field = |at: usize| line[at + 1..].starts_with(|c: char| c.is_ascii_lowercase());
            let logged =
                line.contains("tracing::") && line.match_indices('?').any(|(at, _)| field(at));
            let debug = line.contains(":?}") || line.contains(":#?}") || logged;
            let for_people = FOR_PEOPLE.iter().any(|part| line.contains(part));
            allowed += usize::from(debug && for_people);
            assert!(!debug || for_people, "{}: {line}", path.display());
        }
    }
    assert!(files > 60, "{files} files are too few to be all");
    assert_eq!(allowed, FOR_PEOPLE.len(), "what is allowed is there");
}
