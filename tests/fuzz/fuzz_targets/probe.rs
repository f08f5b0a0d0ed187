#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    blvm_mesh::fuzz::probe(data);
});
