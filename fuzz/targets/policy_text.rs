#![no_main]
//! See `selvedge_fuzz::policy_text`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::policy_text(bytes));
