//! Every fuzz body over its seeds, changes of them, and any bytes.

use blvm_mesh_tests::fuzz::corpus::{run, saved, shown};
use blvm_mesh_tests::fuzz::{TARGETS, Target, seeds};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn body(name: &str) -> Target {
    TARGETS.iter().find(|(n, _)| *n == name).expect("a target").1
}

fn over_seeds_and_any_bytes(name: &str) {
    let body = body(name);
    run(name, body);
    let cases = if matches!(name, "mesh" | "datagram" | "flow_end") { 32 } else { 256 };
    TestRunner::new(ProptestConfig::with_cases(cases))
        .run(&prop::collection::vec(any::<u8>(), 0..400), |bytes| {
            shown(name, body, &bytes);
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{name}: {e}"));
}

macro_rules! each {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                over_seeds_and_any_bytes(stringify!($name));
            }
        )*

        #[test]
        fn every_body_is_run() {
            assert_eq!(TARGETS.map(|(name, _)| name), [$(stringify!($name)),*]);
            for (name, _) in TARGETS {
                let target = format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
                let text = std::fs::read_to_string(&target).expect(&target);
                assert!(text.contains(&format!("fuzz::{name}::target(data)")), "{target}");
            }
        }
    };
}

each! {
    board bolt11 covenant datagram detect flow_end handshake headers joiner ledger merkle mesh packed packet_buffer
    private_tlv proof stratum stream transaction wire
}

#[test]
fn the_saved_seeds_are_those_of_the_generator() {
    for (target, name, bytes) in seeds::all() {
        let saved = saved(target);
        let found = saved.iter().find(|(n, _)| n == name);
        let again = "run the example fuzz_seeds";
        let (_, found) = found.unwrap_or_else(|| panic!("{target}/{name} is not saved: {again}"));
        assert!(*found == bytes, "{target}/{name} is another: {again}");
    }
}
