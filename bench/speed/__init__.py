"""How fast Ringback is beside its switch, and what a call costs: `python -m bench.speed`."""
