"""Credentials as botocore takes them (botocore.credentials), kept fresh by a Provider.

botocore's own RefreshableCredentials would do much of it. But its lock is held for ever in a process that is forked
during a refresh, it asks again at each call while a refresh fails, and each of the callers that waited for a failure
asks once more: a signature, and perhaps a touch, each time.
"""

from datetime import UTC, datetime

from botocore.credentials import CredentialProvider, ReadOnlyCredentials, RefreshableCredentials

from rolekey.provider import Provider
from rolekey.vend.in_process import METHOD


class RolekeyCredentials(RefreshableCredentials):  # type: ignore[misc]  # botocore has no types
    """Credentials that refresh by themselves, when they are used.

    Args:
        provider: keeps them fresh.
    """

    def __init__(self, provider: Provider) -> None:
        # Nothing of the base class's state is used; it is what other libraries look for.
        self._provider = provider
        self.method = METHOD

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """One set of credentials, which belong together.

        Raises:
            RolekeyError: there are none, or the ones that are there are about to expire, and new ones cannot be had.
        """
        return frozen(self._provider)

    @property
    def access_key(self) -> str:
        """Of the current set; two properties read one after the other may be of two sets."""
        return str(self.get_frozen_credentials().access_key)

    @property
    def secret_key(self) -> str:
        """As access_key."""
        return str(self.get_frozen_credentials().secret_key)

    @property
    def token(self) -> str:
        """As access_key."""
        return str(self.get_frozen_credentials().token)

    @property
    def account_id(self) -> None:
        """Unknown: the service does not say it."""
        return

    @property
    def _expiry_time(self) -> datetime | None:
        # Private, and read by many programs, since there is nothing else.
        return self._provider.expires()

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        """Whether the next use asks for new ones, or there is less than a number of seconds left.

        Args:
            refresh_in: seconds; None leaves it to the windows.
        """
        expires = self._provider.expires()
        if refresh_in is None or expires is None:
            return self._provider.fresh() is None
        return (expires - datetime.now(UTC)).total_seconds() < refresh_in


class RolekeyProvider(CredentialProvider):  # type: ignore[misc]  # as above
    """A link of botocore's chain that always has credentials: what comes after it is never asked.

    Args:
        provider: keeps them fresh.
    """

    METHOD = METHOD
    CANONICAL_NAME = METHOD

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._provider = provider

    def load(self) -> RolekeyCredentials:
        """The credentials; nothing is asked for before they are used."""
        return RolekeyCredentials(self._provider)


def frozen(provider: Provider) -> ReadOnlyCredentials:
    """The current set, as botocore's signers take it.

    Args:
        provider: has it.

    Raises:
        RolekeyError: as Provider.obtain() says.
    """
    credentials = provider.obtain()
    return ReadOnlyCredentials(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
