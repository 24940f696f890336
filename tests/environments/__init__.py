"""Environments that the tests can be run in: other settings, a pooler, a standby, a full disk."""
