#![no_main]
//! See `selvedge_fuzz::identity`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::identity(bytes));
