"""All broken set-ups, in the order of docs/doctor.md: each module puts its own into the list."""

from support import broken_keys, broken_services
from support.broken_bench import BROKEN, Bench, Broken

__all__ = ["BROKEN", "Bench", "Broken", "broken_keys", "broken_services"]
