#![no_main]
//! See `selvedge_fuzz::transaction`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::transaction(bytes));
