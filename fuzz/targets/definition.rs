#![no_main]
//! See `selvedge_fuzz::definition`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::definition(bytes));
