#![no_main]

use vault_plugin_secrets_openrouter::invariants;

libfuzzer_sys::fuzz_target!(|input: &[u8]| invariants::duration(input));
