#![no_main]
//! See `selvedge_fuzz::block_file`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::block_file(bytes));
