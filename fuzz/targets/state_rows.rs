#![no_main]
//! See `selvedge_fuzz::state_rows`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::state_rows(bytes));
