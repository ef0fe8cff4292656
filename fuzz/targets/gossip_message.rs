#![no_main]
//! See `selvedge_fuzz::gossip_message`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::gossip_message(bytes));
