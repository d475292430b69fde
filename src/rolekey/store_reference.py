"""A certificate and its key in a certificate store of Windows, as the options name them."""

from pathlib import Path
from typing import Self

from rolekey.base.paths import path_fault, path_of_url
from rolekey.cert_selector import FILE, CertificateSelector
from rolekey.errors import ConfigurationError
from rolekey.options import Options
from rolekey.pin_source import PinSource
from rolekey.value import Value

DEFAULT_STORE = "MY"
_STORES = {"my": "MY", "root": "Root", "trust": "Trust", "ca": "CA"}


class StoreReference(Value):
    """What selects a certificate, and with it the key.

    Args:
        selector: what the certificate must have, or the file that says so.
        store: the system store's name.
        use_latest: of several, the one that expires last is meant.
    """

    selector: CertificateSelector | Path
    store: str
    use_latest: bool

    @classmethod
    def of(cls, options: Options) -> Self:
        """What the options say.

        Args:
            options: at least one of those of a store is given.

        Raises:
            ConfigurationError: they cannot be read, or a PIN's source is among them.
        """
        if options.pin_source and PinSource.parse(options.pin_source).kind not in ("prompt", "none"):
            raise ConfigurationError(
                "--pin-source is for a key in a token or a TPM, and this one is in a certificate store",
                hint="leave out --pin-source: what keeps the key asks for its PIN in a window of its own",
            )
        text, name = options.cert_selector or "", options.system_store_name or DEFAULT_STORE
        if not name.isprintable() or "\\" in name:
            raise ConfigurationError(
                "--system-store-name is not one of a store of this computer",
                hint="write MY, Root, Trust, CA or another",
            )
        is_file = text.startswith(FILE)
        return cls(
            selector=_selector_file(text.removeprefix(FILE)) if is_file else CertificateSelector.parse(text),
            store=_STORES.get(name.lower(), name),
            use_latest=bool(options.use_latest_expiring_certificate),
        )

    def loaded(self) -> CertificateSelector:
        """The selector itself; its file is read anew.

        Raises:
            ConfigurationError: it cannot be read.
        """
        return CertificateSelector.read(self.selector) if isinstance(self.selector, Path) else self.selector

    def __str__(self) -> str:
        selected = f"{FILE}{self.selector}" if isinstance(self.selector, Path) else str(self.selector)
        latest = ", the one that expires last" if self.use_latest else ""
        return f"certificate store {self.store}: {selected or 'any certificate'}{latest}"


def _selector_file(text: str) -> Path:
    path = path_of_url(text)
    if fault := path_fault(path):
        raise ConfigurationError(f"--cert-selector is {fault[0]}", hint=fault[1])
    return Path(path)
