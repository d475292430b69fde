"""The rules of the house (tests/support/house_rules.py), held over the whole tree and each proven on bad examples."""

from pathlib import Path

import pytest

from support import house_rules
from support.house_rules import Source, read_tree

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = read_tree(ROOT / "src" / "rolekey")
SUPPORT = read_tree(ROOT / "tests" / "support")
TESTS = [source for source in read_tree(ROOT / "tests") if Path(source.path).name.startswith("test_")]

RULES = [
    # the rule, the files it looks at, and a number of files below which it has looked at nothing
    (house_rules.check_arrows, PRODUCT, 20),
    (house_rules.check_dependencies, PRODUCT, 20),
    (house_rules.check_catch_all, PRODUCT, 20),
    (house_rules.check_environment, PRODUCT, 20),
    (house_rules.check_portable_imports, PRODUCT, 20),
    (house_rules.check_posix_names, PRODUCT, 20),
    (house_rules.check_length, PRODUCT + SUPPORT, 25),
    (house_rules.check_docstrings, PRODUCT + SUPPORT, 25),
    (house_rules.check_test_docstrings, TESTS, 4),
]

# rule, path, source, whether the rule is broken
EXAMPLES = [
    (house_rules.check_arrows, "tokens/x.py", "from rolekey.signers.base import Signer", True),
    (house_rules.check_arrows, "tokens/x.py", "def f():\n    import rolekey.cli.main", True),
    (house_rules.check_arrows, "tokens/x.py", "from ..identity import open_identity", True),
    (house_rules.check_arrows, "tokens/x.py", "from .. import identity", True),
    (house_rules.check_arrows, "tokens/x.py", "from . import objects\nfrom rolekey.errors import ModuleError", False),
    (house_rules.check_arrows, "vend/imds.py", "from rolekey.keys import csr", True),
    (house_rules.check_arrows, "errors.py", "from rolekey.arn import ARN", True),
    (house_rules.check_arrows, "arn.py", "import rolekey", True),
    (house_rules.check_arrows, "create_session.py", "from rolekey._version import __version__", False),
    (house_rules.check_arrows, "token_identity.py", "from rolekey.identity import SigningIdentity", False),
    (house_rules.check_arrows, "http_server.py", "from rolekey.secret import Secret", True),
    (house_rules.check_arrows, "http_server.py", "from rolekey.errors import ListenError", False),
    (house_rules.check_arrows, "emulator/app.py", "from rolekey.errors import ConfigurationError", True),
    (house_rules.check_arrows, "emulator/app.py", "from rolekey.emulator.model import Role", False),
    (house_rules.check_arrows, "cli/emulator.py", "from rolekey.emulator import Emulator", False),
    (house_rules.check_arrows, "cli/update.py", "from rolekey.emulator import Emulator", True),
    (house_rules.check_arrows, "__init__.py", "from rolekey.provider import Provider", False),
    (house_rules.check_arrows, "__init__.py", "from rolekey.cli import main", True),
    (house_rules.check_arrows, "unheard_of.py", "", True),
    (house_rules.check_dependencies, "vend/process.py", "import click", True),
    (house_rules.check_dependencies, "cli/serve.py", "import click", False),
    (house_rules.check_dependencies, "signers/pkcs11.py", "from pkcs11 import Mechanism", True),
    (house_rules.check_dependencies, "signers/pkcs11.py", "from rolekey.pkcs11_uri import parse", False),
    (house_rules.check_dependencies, "tokens/deep/x.py", "import pkcs11.exceptions", False),
    (house_rules.check_dependencies, "signers/file.py", "import tpm2_pytss", True),
    (house_rules.check_dependencies, "signers/tpm_file.py", "import tpm2_pytss", False),
    (house_rules.check_dependencies, "doctor/sdk.py", "def f():\n    from botocore.session import Session", True),
    (house_rules.check_dependencies, "vend/boto3.py", "import boto3, botocore", False),
    (house_rules.check_catch_all, "arn.py", "try:\n    f()\nexcept Exception:\n    pass", True),
    (house_rules.check_catch_all, "arn.py", "try:\n    f()\nexcept (ValueError, BaseException):\n    pass", True),
    (house_rules.check_catch_all, "arn.py", "try:\n    f()\nexcept:\n    pass", True),
    (house_rules.check_catch_all, "arn.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise", False),
    (house_rules.check_catch_all, "arn.py", "try:\n    f()\nexcept ValueError:\n    pass", False),
    (house_rules.check_catch_all, "doctor/clock.py", "try:\n    f()\nexcept Exception:\n    pass", False),
    (house_rules.check_catch_all, "cli/ending.py", "def f():\n  try:\n    g()\n  except Exception:\n    pass", True),
    (
        house_rules.check_catch_all,
        "cli/ending.py",
        "def ending():\n  try:\n    g()\n  except Exception:\n    pass",
        False,
    ),
    (house_rules.check_catch_all, "__main__.py", "def main():\n  try:\n    g()\n  except Exception:\n    pass", False),
    (house_rules.check_environment, "create_session.py", "import os\nx = os.environ['HOME']", True),
    (house_rules.check_environment, "create_session.py", "import os\nx = os.getenv('HOME')", True),
    (house_rules.check_environment, "create_session.py", "from os import environ", True),
    (house_rules.check_environment, "create_session.py", "import os\nx = settings.environ", False),
    (house_rules.check_environment, "config.py", "import os\nx = os.environ['HOME']", False),
    (house_rules.check_portable_imports, "cli/x.py", "import os, termios", True),
    (house_rules.check_portable_imports, "cli/x.py", "from fcntl import flock", True),
    (house_rules.check_portable_imports, "cli/x.py", "def f():\n    import termios", False),
    (house_rules.check_posix_names, "arn.py", "import signal\nx = signal.SIGHUP", True),
    (house_rules.check_posix_names, "arn.py", "def f():\n    import fcntl", True),
    (house_rules.check_posix_names, "arn.py", "hint = f'chmod 600 {path}'", True),
    (house_rules.check_posix_names, "arn.py", "x = open('/proc/self/maps')", True),
    (house_rules.check_posix_names, "cli/process.py", "import signal\nx = signal.SIGHUP", False),
    (house_rules.check_length, "arn.py", "x = 1\n" * 501, True),
    (house_rules.check_length, "arn.py", "x = 1\n" * 500, False),
    (house_rules.check_docstrings, "arn.py", "x = 1", True),
    (house_rules.check_docstrings, "arn.py", '"""M."""\ndef f(): ...', True),
    (house_rules.check_docstrings, "arn.py", '"""M."""\nclass A:\n    """A."""\n    def f(self): ...', True),
    (house_rules.check_docstrings, "arn.py", '"""M."""\ndef f():\n    """F."""\ndef _g(): ...', False),
    (house_rules.check_test_docstrings, "unit/test_x.py", '"""M."""\ndef test_a(): ...', True),
    (house_rules.check_test_docstrings, "unit/test_x.py", '"""M."""\nclass TestA:\n    def test_a(self): ...', True),
    (
        house_rules.check_test_docstrings,
        "unit/test_x.py",
        '"""M."""\ndef test_a():\n    """A."""\ndef helper(): ...',
        False,
    ),
]


@pytest.mark.parametrize(("rule", "sources", "at_least"), RULES, ids=[rule.__name__ for rule, _, _ in RULES])
def test_the_tree_keeps_the_rule(rule, sources, at_least):
    """No file breaks the rule, and the rule has looked at files."""
    assert len(sources) > at_least
    assert [breach for source in sources for breach in rule(source)] == []


@pytest.mark.parametrize(("rule", "path", "text", "broken"), EXAMPLES)
def test_the_rule_tells_bad_from_good(rule, path, text, broken):
    """The checker finds the breach in a bad example, and nothing in a good one."""
    assert bool(rule(Source(path, text))) is broken


def test_every_rule_has_a_bad_example():
    """A rule that nothing can break is no rule."""
    checkers = {name for name in vars(house_rules) if name.startswith("check_")}
    assert {rule.__name__ for rule, _, _ in RULES} == checkers
    assert {rule.__name__ for rule, _, _, broken in EXAMPLES if broken} == checkers
