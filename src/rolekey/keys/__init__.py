"""The life of a private key in its token or TPM: what is behind `rolekey key`."""

ARGUMENT = "KEY"  # what the command line calls the key
