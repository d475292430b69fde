"""AWS credentials from a private key that never leaves its hardware."""

__version__ = "0.1.0"
