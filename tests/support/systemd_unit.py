"""A systemd service without systemd: what a unit file asks for, in namespaces, with the environment of systemd.exec(5).

What needs seccomp, cgroups or a device policy is not there, nor is ProtectHome=, behind which a test's Python may be.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.namespaces import as_user, words_for

DYNAMIC_USER = 61234  # of the range that DynamicUser= takes numbers from
# What only concerns the manager, and what namespaces cannot show.
_WITHOUT_EFFECT = {
    *("Type", "Restart", "RestartSec", "RestartPreventExitStatus", "CapabilityBoundingSet"),
    *("LockPersonality", "PrivateDevices", "ProtectControlGroups", "ProtectHome", "ProtectKernelModules"),
    *("ProtectKernelTunables", "RestrictAddressFamilies", "RestrictNamespaces", "SystemCallArchitectures"),
}
_WITH_EFFECT = {
    *("EnvironmentFile", "ExecStart", "LoadCredential", "DynamicUser", "Environment"),
    *("StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "RuntimeDirectoryMode"),
}

# As root of a namespace: a system that is read-only but for /dev/shm and the directories of the service. The arguments
# are the service's name, the host's directories for credentials and for the state, and the command.
_SANDBOX = """
name=$1 credentials=$2 state=$3
shift 3
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p "/run/credentials/$name.service"
cp "$credentials"/* "/run/credentials/$name.service"
chmod 400 "/run/credentials/$name.service"/*
chmod 500 "/run/credentials/$name.service"
mkdir -m 700 "/run/$name"
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -m 700 /var/lib/private
mkdir "/var/lib/private/$name"
ln -s "private/$name" "/var/lib/$name"
mount --bind "$state" "/var/lib/private/$name"
mount --bind "/run/$name" "/run/$name"
for at in / /tmp; do
  if mountpoint -q "$at"; then mount -o remount,bind,ro "$at"; fi
done
mount -o remount,bind,ro /run
mount -o remount,bind,ro /var/lib
cd /
exec "$@"
"""


@dataclass(frozen=True)
class Unit:
    """A unit file.

    Args:
        name: of the service.
        settings: those of [Service], in order; one that was set twice has two values.
    """

    name: str
    settings: Mapping[str, Sequence[str]]

    @classmethod
    def parse(cls, name: str, text: str) -> Self:
        """Read a file.

        Args:
            name: of the service, without ".service".
            text: of the file.
        """
        found: dict[str, list[str]] = {}
        for line in text.partition("[Service]\n")[2].partition("\n[")[0].splitlines():
            key, equals, value = line.partition("=")
            assert bool(equals) is bool(line), line
            if key:
                found.setdefault(key, []).append(value)
        unknown = found.keys() - _WITHOUT_EFFECT - _WITH_EFFECT
        assert not unknown, f"what does {unknown} do?"
        return cls(name, found)

    def one(self, key: str) -> str:
        """The value of a setting that has one."""
        (value,) = self.settings[key]
        return value

    @property
    def credentials(self) -> dict[str, str]:
        """The files that credentials come from, by name."""
        pairs = (value.partition(":") for value in self.settings["LoadCredential"])
        return {name: path for name, _, path in pairs}

    @property
    def credentials_directory(self) -> str:
        """Where the service finds them."""
        return f"/run/credentials/{self.name}.service"

    def variables(self) -> dict[str, str]:
        """What Environment= sets, with its specifiers replaced."""
        values = {"%S": "/var/lib", "%t": "/run", "%d": self.credentials_directory}
        pairs = (re.sub("%.", lambda found: values[found[0]], text) for text in self.settings["Environment"])
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}

    def environment(self, etc: Path) -> dict[str, str]:
        """All variables that the service gets; there is no HOME, since DynamicUser= has none.

        Args:
            etc: stands for /etc/rolekey.
        """
        assert self.one("DynamicUser") == "yes"
        file = etc / Path(self.one("EnvironmentFile")).name
        lines = (line.partition("=") for line in file.read_text().splitlines())
        return {
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "USER": self.name,
            "LOGNAME": self.name,
            "INVOCATION_ID": "0123456789abcdef0123456789abcdef",
            "CREDENTIALS_DIRECTORY": self.credentials_directory,
            "STATE_DIRECTORY": f"/var/lib/{self.one('StateDirectory')}",
            "RUNTIME_DIRECTORY": f"/run/{self.one('RuntimeDirectory')}",
            **self.variables(),
            **{name: value for name, _, value in lines},
        }

    def command(self, environment: Mapping[str, str]) -> list[str]:
        """ExecStart=, as systemd splits it and puts variables in.

        Args:
            environment: of the service.
        """
        words: list[str] = []
        for word in shlex.split(self.one("ExecStart")):
            if word.startswith("$") and not word.startswith("${"):
                words += environment[word[1:]].split()
            else:
                words.append(re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], word))
        return words

    def sandboxed(self, etc: Path, state: Path, command: Sequence[str]) -> list[str]:
        """The words that run a command as the service would run.

        Args:
            etc: stands for /etc/rolekey.
            state: an existing directory that outlives the service.
            command: the command.
        """
        assert {self.one("StateDirectory"), self.one("RuntimeDirectory")} == {self.name}
        assert {self.one("StateDirectoryMode"), self.one("RuntimeDirectoryMode")} == {"0700"}
        sources = etc / "credentials"
        sources.mkdir(exist_ok=True)
        for name, path in self.credentials.items():
            (sources / name).write_bytes((etc / Path(path).name).read_bytes())
        user = [*as_user(DYNAMIC_USER), "setpriv", "--no-new-privs"]
        return [*words_for(_SANDBOX), self.name, str(sources), str(state), *user, *command]
