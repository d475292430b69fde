"""aiobotocore with credentials from a key: vend/boto3.py for programs that wait with asyncio."""

import asyncio
from weakref import WeakKeyDictionary

from rolekey.credentials import Credentials
from rolekey.errors import MissingExtraError
from rolekey.identity import SigningIdentity
from rolekey.interaction import Interaction
from rolekey.provider import Provider
from rolekey.vend.in_process import METHOD, Given, provider_for

try:
    from aiobotocore.credentials import AioCredentialResolver, AioRefreshableCredentials
    from aiobotocore.session import AioSession
    from botocore.credentials import CredentialProvider, ReadOnlyCredentials
except ImportError as error:
    raise MissingExtraError(
        f"aiobotocore cannot be loaded: {error}", hint="pip install 'rolekey[aiobotocore]'"
    ) from error


def aiobotocore_session(
    given: Given,
    *,
    identity: SigningIdentity | None = None,
    interaction: Interaction | None = None,
    use_cache: bool = True,
    profile: str | None = None,
) -> AioSession:
    """A session of aiobotocore whose credentials refresh by themselves, and come from nowhere else.

    A refresh happens in a thread, so that the loop goes on; everybody who needs it waits for the same one.

    Args:
        given: what is asked, of whom, with which key; or the name of an identity in the configuration file.
        identity: an open one, as boto3_session() takes it.
        interaction: asks, as boto3_session() has it; from a thread of its own.
        use_cache: as boto3_session() has it.
        profile: aiobotocore's: whose region and other settings are taken from ~/.aws/config, but no credentials.

    Raises:
        ConfigurationError: as resolve_settings() says.
    """
    link = AioRolekeyProvider(provider_for(given, identity, interaction, use_cache=use_cache))
    session = AioSession(profile=profile)
    # In place of the whole chain: no other source may stand in for the key.
    session.register_component("credential_provider", AioCredentialResolver([link]))
    return session


class AioRolekeyProvider(CredentialProvider):  # type: ignore[misc]  # botocore has no types
    """A link of aiobotocore's chain that always has credentials.

    Args:
        provider: keeps them fresh.
    """

    METHOD = METHOD
    CANONICAL_NAME = METHOD

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._credentials = AioRolekeyCredentials(provider)

    async def load(self) -> "AioRolekeyCredentials":
        """The credentials; nothing is asked for before they are used."""
        return self._credentials


class AioRolekeyCredentials(AioRefreshableCredentials):  # type: ignore[misc]  # as above
    """Credentials that refresh by themselves, when they are used.

    Args:
        provider: keeps them fresh.
    """

    def __init__(self, provider: Provider) -> None:
        # Nothing of the base class's state is used.
        self._provider = provider
        self._flights: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Credentials]] = WeakKeyDictionary()
        self.method = METHOD

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """One set of credentials, which belong together.

        Raises:
            RolekeyError: there are none, or the ones that are there are about to expire, and new ones cannot be had.
        """
        credentials = self._provider.fresh() or await self._obtained()
        return ReadOnlyCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)

    async def get_access_key(self) -> str:
        """Of the current set; two that are asked for one after the other may be of two sets."""
        return str((await self.get_frozen_credentials()).access_key)

    async def get_secret_key(self) -> str:
        """As get_access_key()."""
        return str((await self.get_frozen_credentials()).secret_key)

    async def get_token(self) -> str:
        """As get_access_key()."""
        return str((await self.get_frozen_credentials()).token)

    async def get_account_id(self) -> None:
        """Unknown: the service does not say it."""

    def refresh_needed(self, refresh_in: float | None = None) -> bool:  # noqa: ARG002 - the base class's
        """Whether the next use asks for new ones."""
        return self._provider.fresh() is None

    async def _obtained(self) -> Credentials:
        """What one thread gets, for everybody of this loop: a crowd of threads that wait would take all there are."""
        loop = asyncio.get_running_loop()
        flight = self._flights.get(loop)
        if flight is None or flight.done():
            flight = loop.create_task(asyncio.to_thread(self._provider.obtain))
            flight.add_done_callback(_noticed)
            self._flights[loop] = flight
        # Who is cancelled leaves the others their answer.
        return await asyncio.shield(flight)


def _noticed(flight: "asyncio.Task[Credentials]") -> None:
    """Where everybody was cancelled meanwhile, asyncio need not say that nobody heard of a failure."""
    if not flight.cancelled():
        flight.exception()
