#![no_main]
//! See `selvedge_fuzz::core_yaml`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::core_yaml(bytes));
