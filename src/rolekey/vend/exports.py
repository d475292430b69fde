"""What a shell has to be told so that SDKs ask a local endpoint (AWS SDK reference: IMDS and container providers)."""

import shlex
import sys
from pathlib import Path
from urllib.parse import quote


def metadata_exports(url: str) -> list[str]:
    """For the instance metadata service.

    Args:
        url: the base URL, without a final slash, which some SDKs would double.

    Returns:
        Lines for a shell, on Windows for PowerShell.
    """
    return [_export("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)]


def container_exports(url: str, name: str, token_file: Path) -> list[str]:
    """For the container endpoint.

    Args:
        url: as for metadata_exports().
        name: the identity's.
        token_file: what SDKs are to read the token from.

    Returns:
        Lines as for metadata_exports().
    """
    uri = f"{url}/creds/{quote(name, safe='')}"
    return [
        _export("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri),
        _export("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token_file.absolute())),
    ]


def _export(name: str, value: str) -> str:
    if sys.platform == "win32":
        quoted = value.replace("'", "''")
        return f"$env:{name} = '{quoted}'"
    return f"export {name}={shlex.quote(value)}"
