"""The web console: pages for who runs Ringback, and what they ask for."""
