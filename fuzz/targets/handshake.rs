#![no_main]
//! See `selvedge_fuzz::handshake`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::handshake(bytes));
