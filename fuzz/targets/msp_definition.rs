#![no_main]
//! See `selvedge_fuzz::msp_definition`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::msp_definition(bytes));
