"""The ways out: how credentials are handed to the programs that use them."""
