#![no_main]
//! See `selvedge_fuzz::index_rows`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::index_rows(bytes));
