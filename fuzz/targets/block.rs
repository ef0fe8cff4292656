#![no_main]
//! See `selvedge_fuzz::block`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::block(bytes));
