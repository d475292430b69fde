"""The life of a private key in its token or TPM: what is behind `rolekey key`."""
