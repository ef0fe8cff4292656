#![no_main]
//! See `selvedge_fuzz::envelope`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::envelope(bytes));
