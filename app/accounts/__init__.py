"""Accounts: the organizations, users, extensions, apps and routes that calls are placed with."""
