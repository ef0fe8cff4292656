#![no_main]
//! See `selvedge_fuzz::signature_policy`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::signature_policy(bytes));
