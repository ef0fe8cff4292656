#![no_main]
//! See `selvedge_fuzz::committed_transaction`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::committed_transaction(bytes));
