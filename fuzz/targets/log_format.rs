#![no_main]
//! See `selvedge_fuzz::log_format`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::log_format(bytes));
