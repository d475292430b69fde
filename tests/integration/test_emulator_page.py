"""docs/emulator.md: what it shows works as it stands there."""

import re
from pathlib import Path

import pytest

from rolekey.config import resolve_settings
from rolekey.create_session import request_credentials
from rolekey.deadline import Deadline
from rolekey.emulator import load
from rolekey.errors import CreateSessionError
from rolekey.identity import open_identity
from rolekey.interaction import NoInteraction
from support.emulator import RunningEmulator, running_emulator
from support.pki import make_root

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.rig("emulator")


@pytest.mark.parametrize(("issuer", "accepted"), [("Example Issuing CA", True), ("Another CA", False)])
def test_the_configuration_of_the_page(tmp_path, issuer, accepted):
    """The TOML of the page is read; its role takes certificates of the named issuer and no others."""
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "emulator.toml").write_text(toml)
    root = make_root()
    (tmp_path / "ca.pem").write_bytes(root.pem)
    configuration = load(tmp_path / "emulator.toml")
    leaf = root.issue_authority(common_name=issuer).issue()
    certificate, private_key = leaf.write(tmp_path, "leaf")
    certificate.write_bytes(leaf.pem + leaf.chain_pem)
    (anchor,), (profile,), (role,) = configuration.trust_anchors, configuration.profiles, configuration.roles
    with running_emulator(configuration) as plain:
        emulator = RunningEmulator(plain.url, anchor, profile, role)
        options = emulator.options(certificate=str(certificate), private_key=str(private_key))
        settings, deadline = resolve_settings(options, {}), Deadline(30)
        with open_identity(settings, NoInteraction(), deadline) as identity:
            if accepted:
                assert request_credentials(settings, identity, deadline).access_key_id
            else:
                with pytest.raises(CreateSessionError, match="Unable to assume role"):
                    request_credentials(settings, identity, deadline)
