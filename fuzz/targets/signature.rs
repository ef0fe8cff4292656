#![no_main]
//! See `selvedge_fuzz::signature`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::signature(bytes));
