"""The switch and nothing of ours: event socket, dial strings, commands, events, the simulator."""
