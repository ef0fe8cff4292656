#![no_main]
//! See `selvedge_fuzz::private_writes`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::private_writes(bytes));
