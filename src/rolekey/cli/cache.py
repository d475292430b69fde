"""``rolekey cache``: the credentials that credential-process keeps."""

import os
import time
from pathlib import Path

import click

from rolekey.cache import Cache, Listed
from rolekey.cached_answer import cache_directory
from rolekey.errors import ConfigurationError, printable


@click.group(no_args_is_help=False)
def cache() -> None:
    """List or forget the credentials that credential-process keeps for its next calls."""


@cache.command("list")
def list_command() -> None:
    """Show what is kept and for how long it is good; no secrets."""
    store = _cache()
    for entry in store.entries() if store else ():
        click.echo("\n".join(_lines(entry, time.time())))


@cache.command()
def clear() -> None:
    """Forget all of it.

    Do so after a token was lost, and after the role's sessions were revoked (AWSRevokeOlderSessions): credentials that
    are kept here are of no use then, or should be of none.
    """
    store = _cache()
    try:
        count = store.clear() if store else 0
    except OSError as error:
        raise ConfigurationError(
            f"the cache cannot be cleared: {error.strerror}", hint=f"remove the files in {cache_directory(os.environ)}"
        ) from error
    click.echo(f"forgotten: {count}")


def _cache() -> Cache | None:
    directory = cache_directory(os.environ)
    if directory is None or not Path(directory).exists():
        return None
    store = Cache(Path(directory))
    if not store.is_usable():
        raise ConfigurationError(
            f"{directory} is not a directory that belongs to this user alone, and is not used as a cache",
            hint="remove it, or make it yours with mode 0700",
        )
    return store


def _lines(entry: Listed, now: float) -> list[str]:
    left = int(entry.expires - now)
    shown = {
        **entry.description,
        "access_key_id": entry.note,
        "obtained": _moment(entry.obtained),
        "expires": f"{_moment(entry.expires)} (in {left // 60} min {left % 60} s)",
    }
    return [f"{entry.name}", *(f"  {name}: {printable(value)}" for name, value in shown.items())]


def _moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
