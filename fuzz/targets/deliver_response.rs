#![no_main]
//! See `selvedge_fuzz::deliver_response`.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| selvedge_fuzz::deliver_response(bytes));
