"""What travels between a worker's two ends: frames of bytes, each with its length in front."""

import pickle
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from rolekey.errors import RolekeyError, TokenOperationError, error_from_document
from rolekey.secret import Secret

MAX_FRAME = 1 << 24
# Kinds of PinSource that are the parent's, and can be read once.
KEPT = ("fd", "env")
# The operation that ends the child.
END = "end"
_LENGTH = struct.Struct(">I")


class _SecretPickler(pickle.Pickler):
    """A Secret refuses to be pickled; the pipe to our own child is the one exception."""

    def reducer_override(self, obj: object) -> Any:
        return (Secret, (obj.reveal(),)) if isinstance(obj, Secret) else NotImplemented


def dump(value: object) -> bytes:
    """A pickle, which may hold secrets: from the parent to its child only."""
    buffer = BytesIO()
    _SecretPickler(buffer).dump(value)
    return buffer.getvalue()


def write(pipe: Any, data: bytes) -> None:
    """Write one frame; raises OSError where nobody reads it."""
    frame = memoryview(_LENGTH.pack(len(data)) + data)
    while frame:
        frame = frame[pipe.write(frame) :]
    pipe.flush()


def read(pipe: Any) -> bytes:
    """Read one frame.

    Raises:
        EOFError: the other end is closed.
        ValueError: the frame is larger than MAX_FRAME.
    """
    (length,) = _LENGTH.unpack(_read_exactly(pipe, _LENGTH.size))
    if length > MAX_FRAME:
        raise ValueError("a frame that is too large")
    return _read_exactly(pipe, length)


def _read_exactly(pipe: Any, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = pipe.read(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


def load_error(document: Mapping[str, Any]) -> RolekeyError:
    """The error behind errors.error_to_document()'s object; one that is not known becomes a TokenOperationError."""
    try:
        return error_from_document(document)
    except ValueError:
        message, hint = str(document.get("message")), str(document.get("hint"))
        return TokenOperationError(message, hint=hint)
