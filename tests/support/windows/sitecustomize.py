"""Makes CPython start under Wine, which does not answer what `_wmi` asks."""

import sys

sys.modules["_wmi"] = None  # type: ignore[assignment]
