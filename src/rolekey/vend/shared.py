"""Credentials that all processes of a user share: what the cache knows, or what one of them got and left there."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from rolekey.credentials import Credentials
from rolekey.deadline import Deadline
from rolekey.vend.process import credential_process_json, read_credential_process_json

if TYPE_CHECKING:
    from rolekey.cache import Cache
    from rolekey.cache_question import Question

Place: TypeAlias = "tuple[Cache, Question] | None"

log = logging.getLogger(__name__)


def shared_output(
    place: Place, fetch: Callable[[], Credentials], deadline: Deadline, *, last_good: bool = True
) -> bytes:
    """The bytes that ``rolekey credential-process`` prints.

    Args:
        place: from cache.cached_question(); None neither asks the cache nor leaves anything there.
        fetch: asks for new credentials; called by at most one process at a time.
        deadline: how long another process's attempt is waited for.
        last_good: as Cache.answer() has it.

    Returns:
        A document of credential_process_json(), and a line end.

    Raises:
        RolekeyError: as Cache.answer() says.
    """
    if place is None:
        return _document(fetch())
    from rolekey.cache import Answer  # noqa: PLC0415 - slow to import; not where there is no cache

    def answer() -> Answer:
        credentials = fetch()
        return Answer(_document(credentials), int(credentials.expiration.timestamp()), credentials.access_key_id)

    cache, question = place
    return cache.answer(question, answer, deadline, last_good=last_good)


def _document(credentials: Credentials) -> bytes:
    return f"{credential_process_json(credentials)}\n".encode("ascii")


def shared_credentials(
    place: Place, fetch: Callable[[], Credentials], deadline: Deadline, *, last_good: bool = True
) -> Credentials:
    """What the same bytes say, for whoever does not print them.

    Args:
        place: as for shared_output().
        fetch: as there.
        deadline: as there.
        last_good: as there.

    Raises:
        RolekeyError: as Cache.answer() says.
    """
    output = shared_output(place, fetch, deadline, last_good=last_good)
    try:
        return read_credential_process_json(output)
    except ValueError:
        log.debug("cache: an answer that cannot be read")
        return fetch()
