#![no_main]
//! See `selvedge_fuzz::read_write_set`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::read_write_set(bytes));
