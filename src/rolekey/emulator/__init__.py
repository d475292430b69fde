"""A local IAM Roles Anywhere that verifies like the service. It shares no code with the client.

The client's mistakes would be repeated by its own code, so nothing in this package imports anything of rolekey outside
it.
"""

from rolekey.emulator.app import Emulator
from rolekey.emulator.assume_role import STS
from rolekey.emulator.configuration import for_certificate_authority, load
from rolekey.emulator.model import Configuration, EmulatorConfigurationError
from rolekey.emulator.request_log import RequestLog
from rolekey.emulator.session import mint_random

__all__ = [
    "STS",
    "Configuration",
    "Emulator",
    "EmulatorConfigurationError",
    "RequestLog",
    "for_certificate_authority",
    "load",
    "mint_random",
]
