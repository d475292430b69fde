"""Credentials for an SDK in this very process: what vend/boto3.py and vend/aiobotocore.py have in common.

They come from the cache that all processes of the user share, where it has them, and go there.
"""

import logging
import os
from typing import TYPE_CHECKING

from rolekey.cache import cached_question
from rolekey.config import Settings, resolve_settings
from rolekey.credentials import Fetched
from rolekey.deadline import ATTENDED_SECONDS, Deadline
from rolekey.errors import SignerError
from rolekey.fetcher import Fetcher
from rolekey.interaction import Interaction, NoInteraction
from rolekey.options import Options
from rolekey.provider import Provider
from rolekey.vend.shared import shared_credentials

if TYPE_CHECKING:
    from rolekey.identity import SigningIdentity

Given = Options | Settings | str
METHOD = "rolekey"  # what an SDK calls this way to credentials

# A library writes nothing on stderr where the program has no log.
logging.getLogger("rolekey").addHandler(logging.NullHandler())


def provider_for(
    given: Given,
    identity: "SigningIdentity | None",
    interaction: Interaction | None,
    *,
    use_cache: bool,
) -> Provider:
    """What keeps a program's credentials fresh; made without a look at files, keys or the network.

    Args:
        given: what is asked, of whom, with which key; or the name of an identity in the configuration file.
        identity: an open one, which signs in place of the key that is named; the caller closes it.
        interaction: asks for a PIN or passphrase that no source gives.
        use_cache: share answers with the user's other processes; never where an open identity signs.

    Raises:
        ConfigurationError: as resolve_settings() says.
    """
    settings = _settings(given)
    if identity is not None:
        return Provider(_OpenIdentity(settings, identity))
    person = interaction or NoInteraction()
    fetcher = Fetcher(settings, lambda _deadline: person, attended=interaction is not None)
    return Provider(_Shared(settings, fetcher) if use_cache else fetcher)


def _settings(given: Given) -> Settings:
    if isinstance(given, str):
        return resolve_settings(Options(), os.environ, given)
    return resolve_settings(given, os.environ) if isinstance(given, Options) else given


class _Shared:
    """Takes the answer that another process of this user got, and leaves its own to them.

    Args:
        settings: the question.
        fetcher: asks it.
    """

    def __init__(self, settings: Settings, fetcher: Fetcher) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._has_some = False

    def __call__(self) -> Fetched:
        deadline = self._fetcher.deadline()
        place = cached_question(self._settings, (), os.environ)
        # Whoever has some goes on with them by itself, and must hear of the failure.
        last_good = not self._has_some
        credentials = shared_credentials(
            place, lambda: self._fetcher(deadline).credentials, deadline, last_good=last_good
        )
        self._has_some = True
        return Fetched(credentials)


class _OpenIdentity:
    """Signs with an identity that the program keeps open.

    Args:
        settings: the question.
        identity: signs.
    """

    def __init__(self, settings: Settings, identity: "SigningIdentity") -> None:
        self._settings = settings
        self._identity = identity
        self._process = os.getpid()

    def __call__(self) -> Fetched:
        if os.getpid() != self._process:
            # A token's module that was loaded in the parent breaks here, or breaks the parent.
            raise SignerError(
                "the identity was opened before this process was forked",
                hint="open it after the fork, or name certificate and key in the options instead",
            )
        from rolekey.create_session import request_credentials  # noqa: PLC0415 - not for what the cache knows

        deadline = Deadline(self._settings.timeout or ATTENDED_SECONDS)
        credentials = request_credentials(self._settings, self._identity, deadline)
        return Fetched(credentials, self._identity.certificate.not_valid_after_utc)
