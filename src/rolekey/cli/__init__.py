"""The command line: each command turns options into a call of a plain function."""
