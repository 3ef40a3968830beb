# Added to the rest of the configuration directory. Vault gives only its own program the capability to
# lock memory, so in a container the plugin logs that it cannot lock memory, and continues.
plugin_directory = "/vault/plugins"
