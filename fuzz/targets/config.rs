#![no_main]
//! See `selvedge_fuzz::config`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::config(bytes));
