# Beside whatever else is in the configuration directory. Vault sets the capability to lock memory on its own
# program only, so in a container the plugin says in the log that it cannot, and goes on.
plugin_directory = "/vault/plugins"
