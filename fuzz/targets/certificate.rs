#![no_main]
//! See `selvedge_fuzz::certificate`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::certificate(bytes));
