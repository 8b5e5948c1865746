//! See `src/engine.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kcp_fuzz::engine::engine(data));
