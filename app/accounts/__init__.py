"""Who may ask for calls, and as whom: organizations, users, extensions, apps and routes."""
