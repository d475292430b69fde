"""boto3 with credentials from a key, in the program's own process. docs/boto3.md says the same to users."""

from typing import TYPE_CHECKING, Any

from rolekey.errors import ConfigurationError, MissingExtraError
from rolekey.interaction import Interaction
from rolekey.vend.in_process import Given, provider_for

if TYPE_CHECKING:
    import boto3
    import botocore.session

    from rolekey.identity import SigningIdentity
    from rolekey.vend.botocore import RolekeyProvider


def boto3_session(
    given: Given,
    *,
    identity: "SigningIdentity | None" = None,
    interaction: Interaction | None = None,
    use_cache: bool = True,
    region_name: str | None = None,
    profile_name: str | None = None,
) -> "boto3.Session":
    """A session of boto3 whose credentials refresh by themselves, and come from nowhere else.

    Nothing is asked of the key or the network before the first request is signed. The session is as safe for threads
    as any of boto3; what fails raises a RolekeyError in the call that needed credentials.

    Args:
        given: what is asked, of whom, with which key; or the name of an identity in the configuration file.
        identity: an open one, which signs in place of the key that is named; whoever opened it closes it. The cache is
            not used.
        interaction: asks for a PIN or passphrase that no source gives; nobody is asked without it.
        use_cache: share answers with the user's other processes, as ``rolekey credential-process`` does.
        region_name: boto3's.
        profile_name: boto3's: whose region and other settings are taken from ~/.aws/config, but no credentials.

    Raises:
        ConfigurationError: as resolve_settings() says.
        MissingExtraError: boto3 is not installed.
    """
    link = _link(given, identity, interaction, use_cache=use_cache)
    import boto3  # noqa: PLC0415 - slow to import, and an extra
    from botocore.credentials import CredentialResolver  # noqa: PLC0415 - as above
    from botocore.session import Session  # noqa: PLC0415 - as above

    botocore_session = Session()
    # In place of the whole chain: no other source may stand in for the key.
    botocore_session.register_component("credential_provider", CredentialResolver([link]))
    return boto3.Session(botocore_session=botocore_session, region_name=region_name, profile_name=profile_name)


def add_to_chain(
    session: "boto3.Session | botocore.session.Session",
    given: Given,
    *,
    before: str | None = None,
    identity: "SigningIdentity | None" = None,
    interaction: Interaction | None = None,
    use_cache: bool = True,
) -> None:
    """Put the key into the chain of credential sources of a session that is there.

    What stands behind it in the chain is never asked: a key that cannot be used is an error, and no reason to look
    elsewhere.

    Args:
        session: of boto3 or botocore; it has not needed credentials yet.
        given: what is asked, of whom, with which key; or the name of an identity in the configuration file.
        identity: an open one, as boto3_session() takes it.
        interaction: asks, as boto3_session() has it.
        use_cache: as boto3_session() has it.
        before: botocore's name of the source that comes next, such as ``env``; None makes this one the first.

    Raises:
        ConfigurationError: the session has its credentials already, or its chain does not have that source; or as
            resolve_settings() says.
        MissingExtraError: boto3 is not installed.
    """
    link = _link(given, identity, interaction, use_cache=use_cache)
    from botocore.exceptions import UnknownCredentialError  # noqa: PLC0415 - an extra

    botocore_session: Any = getattr(session, "_session", session)
    if getattr(botocore_session, "_credentials", None) is not None:
        raise ConfigurationError(
            "the session has credentials already, and would not look into its chain any more",
            hint="add rolekey to a session before its first client is made",
        )
    resolver = botocore_session.get_component("credential_provider")
    if before is None:
        resolver.providers.insert(0, link)
        return
    try:
        resolver.insert_before(before, link)
    except UnknownCredentialError as error:
        names = ", ".join(str(provider.METHOD) for provider in resolver.providers)
        raise ConfigurationError(f"the session's chain has no source {before}", hint=f"name one of: {names}") from error


def _link(
    given: Given, identity: "SigningIdentity | None", interaction: Interaction | None, *, use_cache: bool
) -> "RolekeyProvider":
    try:
        import boto3  # noqa: F401, PLC0415 - slow to import, and an extra

        from rolekey.vend.botocore import RolekeyProvider  # noqa: PLC0415 - as above
    except ImportError as error:
        raise MissingExtraError(f"boto3 cannot be loaded: {error}", hint="pip install 'rolekey[boto3]'") from error
    return RolekeyProvider(provider_for(given, identity, interaction, use_cache=use_cache))
