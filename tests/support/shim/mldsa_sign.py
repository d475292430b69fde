"""Signs standard input with ML-DSA, for shim/pkcs11_mldsa.c: by dilithium-py, which shares no code with cryptography.

Arguments: 44, 65 or 87, and a file with the seed. Hedged, and with an empty context, as CKM_ML_DSA without a parameter.
"""

import sys
from pathlib import Path

from dilithium_py.ml_dsa import ML_DSA_44, ML_DSA_65, ML_DSA_87

SETS = {"44": ML_DSA_44, "65": ML_DSA_65, "87": ML_DSA_87}


def main(name: str, seed: str) -> None:
    """Write the signature to standard output."""
    _, private_key = SETS[name].key_derive(Path(seed).read_bytes())
    sys.stdout.buffer.write(SETS[name].sign(private_key, sys.stdin.buffer.read()))


if __name__ == "__main__":
    main(*sys.argv[1:])
