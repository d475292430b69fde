"""A file that a command of ``rolekey key`` writes: a new one, or with --force one in the place of another."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from rolekey.base.owner import create_private_file
from rolekey.errors import ConfigurationError
from rolekey.key_settings import plain_path
from rolekey.value import Value

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Output(Value):
    """Where something is written.

    Args:
        path: of the file, or None for standard output.
        option: what the user names it with.
        force: a file that is there is replaced.
    """

    path: Path | None
    option: str
    force: bool

    @classmethod
    def parse(cls, text: str | None, option: str, *, force: bool) -> Self:
        """Check it, before anything is done for which somebody has to touch a token.

        Args:
            text: the file's name, or ``-``.
            option: what the user names it with.
            force: a file that is there is replaced.

        Raises:
            ConfigurationError: it is not given, is no file's name, or the file is there.
        """
        if not text:
            raise ConfigurationError(f"{option} is missing", hint="name the file to write, or - for standard output")
        if text == "-":
            return cls(None, option, force)
        if not is_file_name(plain_path(text, option)):
            raise ConfigurationError(
                f"{option} is a URI or a handle, and a file is to be written", hint="name a file; none was made"
            )
        output = cls(Path(text), option, force)
        output.check()
        return output

    def check(self) -> None:
        """Refuse to replace a file unless that is wanted.

        Raises:
            ConfigurationError: there is something, or it could not be written.
        """
        assert self.path is not None  # noqa: S101 - not for standard output
        if os.path.lexists(self.path) and not (self.force and self.path.is_file()):
            what = "is there already" if self.path.is_file() else "is no file"
            raise ConfigurationError(
                f"{self.option}: {self.path} {what}, and is left as it is",
                hint="name another file, or have this one replaced with --force",
            )
        if not self.path.parent.is_dir():
            raise ConfigurationError(
                f"{self.option}: {self.path.parent} is no directory", hint="make it first, or name another file"
            )

    def write(self, content: bytes, mode: int = 0o644) -> None:
        """Write the file whole, or leave things as they were.

        Args:
            content: all of it.
            mode: its permissions, less those that the umask takes.

        Raises:
            ConfigurationError: it cannot be written, or is there meanwhile.
        """
        assert self.path is not None  # noqa: S101 - not for standard output
        target = self.path
        new = target.with_name(f".{target.name}.rolekey-{os.getpid()}") if self.force else target
        try:
            descriptor = os.open(new, _FLAGS, mode) if mode & 0o044 else create_private_file(new)
            try:
                with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                    file.write(content)
                    file.flush()
                    os.fsync(descriptor)
                if new != target:
                    new.replace(target)
            except BaseException:
                with suppress(OSError):
                    new.unlink()
                raise
        except OSError as error:
            raise ConfigurationError(
                f"{self.option}: {target} cannot be written: {error.strerror or type(error).__name__}",
                hint="name a file in a directory where this user may write; nothing was changed",
            ) from error


def is_file_name(text: str) -> bool:
    """Whether a text that stands where a file belongs is one, and no URI or handle.

    Args:
        text: as the user wrote it.
    """
    return not text.lower().lstrip(" '\"").startswith(("pkcs11:", "handle:", "file:"))
