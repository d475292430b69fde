"""AWS credentials from a private key that never leaves its hardware.

A program asks like this; every error is a RolekeyError (rolekey.errors draws the tree)::

    settings = rolekey.resolve_settings(rolekey.Options(trust_anchor_arn=..., ...), os.environ)
    deadline = rolekey.Deadline.of(settings.timeout, attended=False)
    with rolekey.open_identity(settings, rolekey.NoInteraction(), deadline) as identity:
        credentials = rolekey.request_credentials(settings, identity, deadline)

and with boto3, whose credentials then refresh by themselves::

    s3 = rolekey.boto3_session(rolekey.Options(trust_anchor_arn=..., ...)).client("s3")

Importing rolekey loads nothing heavy: each name is imported when it is used.
"""

from rolekey._version import __version__

TYPE_CHECKING = False  # typing is slow to import, and every process imports this module
if TYPE_CHECKING:
    from rolekey.config import Settings, resolve_settings
    from rolekey.create_session import request_credentials
    from rolekey.credentials import Credentials
    from rolekey.deadline import Deadline
    from rolekey.errors import RolekeyError
    from rolekey.identity import SigningIdentity, open_identity
    from rolekey.interaction import NoInteraction
    from rolekey.options import Options
    from rolekey.secret import Secret
    from rolekey.vend.boto3 import boto3_session

__all__ = [
    "Credentials",
    "Deadline",
    "NoInteraction",
    "Options",
    "RolekeyError",
    "Secret",
    "Settings",
    "SigningIdentity",
    "__version__",
    "boto3_session",
    "open_identity",
    "request_credentials",
    "resolve_settings",
]

_HOMES = {
    "Credentials": "credentials",
    "Deadline": "deadline",
    "NoInteraction": "interaction",
    "Options": "options",
    "RolekeyError": "errors",
    "Secret": "secret",
    "Settings": "config",
    "SigningIdentity": "identity",
    "boto3_session": "vend.boto3",
    "open_identity": "identity",
    "request_credentials": "create_session",
    "resolve_settings": "config",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rolekey' has no attribute '{name}'")
    from importlib import import_module  # noqa: PLC0415 - slow, as above

    return getattr(import_module(f"rolekey.{_HOMES[name]}"), name)
