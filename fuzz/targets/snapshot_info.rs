#![no_main]
//! See `selvedge_fuzz::snapshot_info`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::snapshot_info(bytes));
