"""``rolekey read-certificate-data``: what a certificate's file, a token or a certificate store shows."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rolekey.cli.fetching import configured_from
from rolekey.cli.flag_table import flags_named
from rolekey.cli.flags import helper_command
from rolekey.cli.terminal import shield_output
from rolekey.deadline import Deadline
from rolekey.errors import ConfigurationError
from rolekey.key_settings import certificate_of, resolve_key_settings
from rolekey.pkcs11_uri import PKCS11URI

READ_CERTIFICATE_FLAGS = flags_named(
    "--certificate --cert-selector --system-store-name --pkcs11-lib --debug --pkcs11-init-args --timeout"
)


@helper_command("read-certificate-data", READ_CERTIFICATE_FLAGS)
def read_certificate_data(names: Sequence[str], **values: Any) -> None:
    """Show a certificate in a file, or list those in tokens or in a certificate store.

    A file's is one JSON document, without a line end. Of tokens, every certificate that the URI selects is listed, of a
    store (on Windows) every one with a private key. No PIN is asked for or sent.
    """
    (options,) = configured_from(values, names)
    if not (options.certificate or options.private_key or options.store_option):
        if sys.platform != "win32":
            raise ConfigurationError(
                "--certificate is missing", hint="name a file, or a pkcs11: URI such as 'pkcs11:token=NAME'"
            )
        options = replace(options, cert_selector="")  # a list is no choice
    settings = resolve_key_settings(options, os.environ)
    reference = certificate_of(settings)
    shield_output(debug=values["debug"])
    # Slow to import; not for a wrong option.
    from rolekey.vend.certificate_data import certificate_json, certificate_list  # noqa: PLC0415

    if isinstance(reference, Path):
        from rolekey.certificates import read_certificates  # noqa: PLC0415

        output = certificate_json(read_certificates(reference)[0])
    elif settings.store is not None:
        from rolekey.certstore.store import find_all  # noqa: PLC0415

        output = certificate_list((certificate, None) for certificate in find_all(settings.store))
    else:
        assert isinstance(reference, PKCS11URI)  # noqa: S101 - nothing else is left
        from rolekey.token_identity import shown_certificates  # noqa: PLC0415

        deadline = Deadline.of(settings.timeout, attended=False)
        output = certificate_list(shown_certificates(settings, reference, deadline))
    sys.stdout.write(output)
    sys.stdout.flush()
