"""Backends of a private key: each module is one, base.py says what they have in common."""
