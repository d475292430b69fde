"""What the checks look at, and what they have found out so far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from rolekey.certificates import Certificate
from rolekey.config import ARNs, Settings
from rolekey.deadline import ATTENDED_SECONDS, Deadline
from rolekey.doctor.finding import not_known
from rolekey.endpoints import Endpoint
from rolekey.errors import RolekeyError
from rolekey.exportability import KeyAttributes, check_non_exportable
from rolekey.interaction import AskUntil
from rolekey.key_settings import MAX_TIMEOUT, KeySettings
from rolekey.options import Options
from rolekey.pin_record import TokenName
from rolekey.pins import PinReader
from rolekey.tokens.matching import TokenContents
from rolekey.tokens.modules import Module
from rolekey.tokens.objects import TokenPrivateKey
from rolekey.transport import Answer
from rolekey.vend.credentials_file import Place

# What one probe may take, so that one that hangs hides no other.
SECONDS_EACH = 10.0


@dataclass
class Facts:
    """What the checks have found out; None is what they have not, or not yet."""

    arns: ARNs | None = None
    key: KeySettings | None = None
    pins: PinReader | None = None
    settings: Settings | None = None
    certificate: Certificate | None = None
    beside: list[Certificate] = field(default_factory=list)
    chain: tuple[Certificate, ...] | None = None
    module: Module | None = None
    card_service: bool = True
    shown: list[tuple[TokenContents, list[TokenPrivateKey]]] | None = None
    contents: TokenContents | None = None
    holder: TokenName | None = None
    """What would count a wrong PIN or password; None where none is needed."""
    endpoint: Endpoint | None = None
    has_address: bool | None = None
    connects: bool | None = None
    trusted: bool | None = None
    answer: Answer | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True)
class Context:
    """What is looked at.

    Args:
        options: as configured_options() returns them, as far as they could be had.
        trouble: why not all of them could.
        environment: the process's, as it was at first.
        clock: the current time, aware.
        ask_until: makes who is asked when it is signed.
        attended: whether that is somebody.
        place: the SDKs' profile, or None where none is looked at.
        trust_anchor: the file of the trust anchor's certificate, or None.
        sign: sign once, and ask for credentials once.
    """

    options: Options
    trouble: tuple[RolekeyError, ...]
    environment: Mapping[str, str] = field(repr=False)
    clock: Callable[[], datetime]
    ask_until: AskUntil
    attended: bool
    place: Place | None = None
    trust_anchor: Path | None = None
    sign: bool = False
    facts: Facts = field(default_factory=Facts)

    @property
    def leaf(self) -> Certificate:
        """The certificate; raises NotKnownError where it was not found."""
        # Not by known(): to the type checker, what two classes have in common is an object.
        if self.facts.certificate is None:
            raise not_known("the certificate")
        return self.facts.certificate

    @property
    def seconds(self) -> float:
        """What one thing may take: as long as the user allows, where that can be."""
        given = self.options.timeout
        return given if given is not None and 0 < given <= MAX_TIMEOUT else ATTENDED_SECONDS

    def admit(self, key: str, attributes: KeyAttributes | None) -> None:
        """Raise UnsupportedKeyError where the user wants no key that may leave its hardware, and this one may.

        Args:
            key: what the key is called.
            attributes: what its hardware says; None of a key that is in none.
        """
        if self.facts.key is not None and self.facts.key.require_non_exportable:
            check_non_exportable(key, attributes)

    def deadline(self) -> Deadline:
        """One for the next probe."""
        return Deadline(min(SECONDS_EACH, self.seconds))
