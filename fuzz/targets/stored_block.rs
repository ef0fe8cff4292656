#![no_main]
//! See `selvedge_fuzz::stored_block`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::stored_block(bytes));
