#![no_main]
//! See `selvedge_fuzz::proposal`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::proposal(bytes));
