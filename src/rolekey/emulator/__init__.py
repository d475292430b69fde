"""A local IAM Roles Anywhere that verifies like the service. It shares no code with the client.

The client's mistakes would be repeated by its own code, so nothing here imports anything of rolekey outside this package.
"""

from rolekey.emulator.app import Emulator
from rolekey.emulator.configuration import Configuration, for_certificate_authority, load
from rolekey.emulator.model import EmulatorConfigurationError

__all__ = ["Configuration", "Emulator", "EmulatorConfigurationError", "for_certificate_authority", "load"]
