#![no_main]
//! See `selvedge_fuzz::genesis_block`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::genesis_block(bytes));
