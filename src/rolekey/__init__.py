"""AWS credentials from a private key that never leaves its hardware.

A program asks like this; every error is a RolekeyError (rolekey.errors draws the tree)::

    settings = rolekey.resolve_settings(rolekey.Options(trust_anchor_arn=..., ...), os.environ)
    deadline = rolekey.Deadline(settings.timeout)
    with rolekey.open_identity(settings, rolekey.NoInteraction(), deadline) as identity:
        credentials = rolekey.request_credentials(settings, identity, deadline)

Importing rolekey loads nothing heavy: each name is imported when it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from rolekey._version import __version__

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
    "open_identity": "identity",
    "request_credentials": "create_session",
    "resolve_settings": "config",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'rolekey' has no attribute '{name}'")
    return getattr(import_module(f"rolekey.{_HOMES[name]}"), name)
