#![no_main]
//! See `selvedge_fuzz::gossip_core`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::gossip_core(bytes));
