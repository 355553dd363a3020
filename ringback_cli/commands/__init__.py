"""The commands of `ringback`. Each is `command` in the module of its name."""
