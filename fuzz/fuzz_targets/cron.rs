#![no_main]

use vault_plugin_secrets_openrouter::any_input;

libfuzzer_sys::fuzz_target!(|input: &[u8]| any_input::cron(input));
