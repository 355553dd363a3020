"""FreeSWITCH alone: its event socket, dial strings, commands and events, and a simulator of it."""
