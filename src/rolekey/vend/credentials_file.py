"""The shared credentials file (AWS SDKs and Tools Reference Guide): new credentials in one of its profiles.

A reader sees the old file or the new one, whole, whatever happens meanwhile: the new one is written beside it, synced
and renamed over it. Writers of ours wait for each other with a lock. Other programs take none: when the file has
changed since it was read, it is read again. What a killed writer left behind is removed by the next one.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError, CredentialsFileError, DeadlineError
from rolekey.private_files import take_lock
from rolekey.value import Value
from rolekey.vend.credentials_text import DEFAULTS_SECTION, KEYS, edited, has_key, is_config_section

MAX_SIZE = 1 << 24
LOCK_SECONDS = 10.0
_ATTEMPTS = 10
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_UNCHANGED = "nothing was changed"
_NOT_OURS = (
    "make the file and its directory this user's, or name another one in AWS_SHARED_CREDENTIALS_FILE or AWS_CONFIG_FILE"
)
_HINTS = {
    errno.EACCES: _NOT_OURS,
    errno.EPERM: _NOT_OURS,
    errno.EROFS: "its file system is read-only: name another file in AWS_SHARED_CREDENTIALS_FILE",
    errno.ENOSPC: f"make room on its file system; {_UNCHANGED}",
    errno.EDQUOT: f"make room within this user's quota; {_UNCHANGED}",
    errno.EFBIG: f"allow this process larger files (ulimit -f); {_UNCHANGED}",
    errno.EBUSY: "a file that is mounted by itself cannot be replaced: mount its directory",
    errno.ELOOP: "its symbolic links lead round in a circle: correct them",
    errno.ENOTDIR: "a part of its path is no directory: correct AWS_SHARED_CREDENTIALS_FILE",
}


class Place(Value):
    """A profile of a credentials file.

    Args:
        path: the credentials file, absolute.
        config_path: the config file of the same SDKs.
        aws_profile: the name of the profile.
    """

    path: Path
    config_path: Path
    aws_profile: str


class _Found(Value):
    """A file that was read, and how it was then."""

    text: str
    status: os.stat_result


def check_place(place: Place) -> None:
    """Find out whether credentials could be written, before anybody is asked for a PIN.

    Args:
        place: where they are to be written. Its directory is made, with mode 0700, where it is missing.

    Raises:
        ConfigurationError: no profile can have that name, or this one has a credential_process.
        CredentialsFileError: the file cannot be read, understood or replaced.
    """
    _check_name(place.aws_profile)
    target = _target(place.path)
    with _locked(target):
        _content(place, _read(target), dict.fromkeys(KEYS, ""))


def write_credentials(
    place: Place,
    credentials: Credentials,
    *,
    uninterrupted: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Put credentials into the profile, which is added where it is missing.

    The file gets mode 0600, or keeps one that allows less. Where it is a symbolic link, what it leads to is replaced.

    Args:
        place: where.
        credentials: what.
        uninterrupted: holds signals back while a new file is there that has not taken the old one's place.

    Raises:
        ConfigurationError: the profile has a credential_process.
        CredentialsFileError: as check_place(); the file is as it was.
    """
    _check_name(place.aws_profile)
    fields = (credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    if not all(re.fullmatch("[!-~]+", field) for field in fields):
        raise CredentialsFileError(
            "the credentials hold a character that has no place in a credentials file",
            hint=f"this is not what IAM Roles Anywhere hands out: check --endpoint; {_UNCHANGED}",
        )
    target = _target(place.path)
    with _locked(target):
        for _ in range(_ATTEMPTS):
            found = _read(target)
            content = _content(place, found, dict(zip(KEYS, fields, strict=True)))
            with uninterrupted(), _explained(target, "replaced"):
                if _replace(target, content, found.status if found else None):
                    return
    raise CredentialsFileError(
        f"{place.path} changes all the time", hint="see which other program writes it; rolekey changed nothing"
    )


def _check_name(aws_profile: str) -> None:
    if aws_profile == DEFAULTS_SECTION:
        raise ConfigurationError(
            "what stands in the section DEFAULT counts for every profile", hint="name another --profile, or default"
        )
    if not aws_profile.isprintable() or aws_profile.strip() != aws_profile or not aws_profile or "]" in aws_profile:
        raise ConfigurationError(
            "--profile names no profile that a credentials file can have",
            hint="give a name without ] and control characters that neither begins nor ends with a blank",
        )


def _target(path: Path) -> Path:
    with _explained(path, "found"):
        target = Path(os.path.realpath(path))
        # On a circle realpath() ends somewhere.
        with suppress(FileNotFoundError):
            target.stat()
        return target


@contextmanager
def _explained(path: Path, verb: str) -> Iterator[None]:
    """Say in our words what the system says of a file."""
    try:
        yield
    except OSError as error:
        raise CredentialsFileError(
            f"{path} cannot be {verb}: {error.strerror or type(error).__name__}",
            hint=_HINTS.get(error.errno or 0, f"see what is wrong with its file system; {_UNCHANGED}"),
        ) from error


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    lock = target.with_name(f"{target.name}.rolekey-lock")
    with _explained(lock, "locked"):
        for directory in reversed(target.parents):
            with suppress(FileExistsError):
                if not directory.exists():
                    directory.mkdir(mode=0o700)
        try:
            descriptor = take_lock(lock, Deadline(LOCK_SECONDS), "another process that writes the credentials file")
        except DeadlineError as error:
            raise CredentialsFileError(
                f"another process has held {lock} for {LOCK_SECONDS:g} s", hint="see which one, and whether it hangs"
            ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> _Found | None:
    """A file, or None where there is none."""
    with _explained(path, "read"):
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
                raise CredentialsFileError(f"{path} is {what}", hint="name another file in AWS_SHARED_CREDENTIALS_FILE")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_SIZE + 1)
        finally:
            os.close(descriptor)
    if len(content) > MAX_SIZE:
        raise CredentialsFileError(f"{path} is larger than 16 MiB", hint=f"see what it is; {_UNCHANGED}")
    return _Found(_decoded(path, content), status)


def _decoded(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CredentialsFileError(
            f"{path} is not UTF-8 in line {line}", hint=f"save it as UTF-8 or remove that line; {_UNCHANGED}"
        ) from None  # the error holds the whole file
    if text.startswith("\ufeff") or "\0" in text:
        what = "a byte order mark" if text.startswith("\ufeff") else "a NUL character"
        raise CredentialsFileError(
            f"{path} has {what}, with which the AWS CLI does not read it",
            hint=f"save it as UTF-8 without a byte order mark; {_UNCHANGED}",
        )
    return text


def _content(place: Place, found: _Found | None, values: dict[str, str]) -> bytes:
    """What is to be in the file."""
    text = found.text if found else ""
    # To botocore, too, a config file that is no regular one (/dev/null) or out of reach is none.
    config = _read(place.config_path) if os.path.isfile(place.config_path) else None  # noqa: PTH113 - never raises
    if has_key(text, "credential_process", lambda name: name.strip() in (place.aws_profile, DEFAULTS_SECTION)):
        raise _has_credential_process(place, place.path)
    if config and has_key(
        config.text, "credential_process", lambda name: is_config_section(name.strip(), place.aws_profile)
    ):
        raise _has_credential_process(place, place.config_path)
    try:
        return edited(text, place.aws_profile, values).encode()
    except ValueError as error:
        raise CredentialsFileError(
            f"{place.path}: {error}", hint=f"remove that line or its indentation; {_UNCHANGED}"
        ) from error


def _has_credential_process(place: Place, path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"the profile {place.aws_profile} has a credential_process in {path}: an SDK would use one of the two",
        hint="name another --profile, or remove the credential_process",
    )


def _replace(path: Path, content: bytes, before: os.stat_result | None) -> bool:
    """Put a new file in place of an old one, unless that has changed; under the lock.

    Args:
        path: no symbolic link.
        content: all of the new file.
        before: of the old file when it was read, or None where there was none.

    Returns:
        Whether it was done.
    """
    new = path.with_name(f"{path.name}.rolekey-new")
    new.unlink(missing_ok=True)
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _FLAGS, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            file.flush()
            if os.name != "nt":
                _keep_owner(path, descriptor, before)
                os.fchmod(descriptor, 0o600 if before is None else before.st_mode & 0o600)
            os.fsync(descriptor)
        if not _is_still(path, before):
            new.unlink()
            return False
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    # The new file is in its place; a system that goes down now may bring back the old one, as whole.
    with suppress(OSError):
        _sync_directory(path.parent)
    return True


def _keep_owner(path: Path, descriptor: int, before: os.stat_result | None) -> None:
    ours = os.fstat(descriptor)
    if before is None or (before.st_uid, before.st_gid) == (ours.st_uid, ours.st_gid):
        return
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    except PermissionError as error:
        if before.st_uid != ours.st_uid:  # a group may change: it is allowed nothing
            raise CredentialsFileError(
                f"{path} belongs to user {before.st_uid}, who could not read it any more",
                hint="run rolekey as that user, or name another file in AWS_SHARED_CREDENTIALS_FILE",
            ) from error


def _is_still(path: Path, before: os.stat_result | None) -> bool:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return before is None
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return before is not None and all(getattr(now, name) == getattr(before, name) for name in names)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
