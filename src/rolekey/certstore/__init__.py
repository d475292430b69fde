"""The backend for a key that a certificate store of Windows leads to."""
