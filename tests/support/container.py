"""A stand-in for `docker run`: the same command line, in namespaces, with a root made up of the host's programs.

    python -m support.container run [--detach] ... IMAGE COMMAND...

There is no /etc but for what is mounted there, and so no list of users; there is neither HOME nor XDG_RUNTIME_DIR. The
image's own variables are in CONTAINER_IMAGE, as JSON. Files of the host and volumes are below CONTAINER_HOST, and so is
what a container that was detached says, with its number.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from support.namespaces import as_user, words_for

# The arguments are what is mounted, where, and "ro" or "rw", any number of times; "--"; the command.
_ROOT = """
mount -t tmpfs tmpfs /mnt
for at in /*; do
  case $at in
  /etc | /run | /var | /mnt | /home) mkdir "/mnt$at" ;;
  *)
    if [ -L "$at" ]; then
      cp -P "$at" "/mnt$at"
    elif [ -d "$at" ]; then
      mkdir "/mnt$at"
      mount --rbind "$at" "/mnt$at"
      case $at in /dev | /proc | /sys) ;; *) mount -o remount,bind,ro "/mnt$at" ;; esac
    fi
    ;;
  esac
done
mount -t tmpfs -o mode=1777,size=64m tmpfs /mnt/dev/shm
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "/mnt$2"; else mkdir -p "/mnt${2%/*}" && touch "/mnt$2"; fi
  mount --bind "$1" "/mnt$2"
  mount -o "remount,bind,$3" "/mnt$2"
  shift 3
done
shift
mkdir /mnt/mnt/old
cd /mnt
/sbin/pivot_root . mnt/old
umount -l /mnt/old
rmdir /mnt/old
mount -o remount,bind,ro /
cd /
exec "$@"
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="docker", allow_abbrev=False)
    run = parser.add_subparsers(required=True).add_parser("run", allow_abbrev=False)
    for flag in ("--rm", "--detach", "--read-only"):
        run.add_argument(flag, action="store_true")
    for flag in ("--name", "--network"):
        run.add_argument(flag)
    run.add_argument("--user", type=int, required=True)
    run.add_argument("--volume", action="append", default=[])
    run.add_argument("--env", action="append", default=[])
    run.add_argument("image")
    run.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args()


def _mounts(volumes: list[str], host: Path) -> list[str]:
    words = []
    for volume in volumes:
        source, place, *mode = volume.split(":")
        words += [str(host / source.lstrip("/")), place, *(mode or ["rw"])]
    return words


def main() -> None:
    """Run a container."""
    arguments = _arguments()
    assert arguments.read_only, "the root is read-only here"
    host = Path(os.environ["CONTAINER_HOST"])
    variables = json.loads(os.environ["CONTAINER_IMAGE"]) | dict(word.split("=", 1) for word in arguments.env)
    user = [*as_user(arguments.user), "setpriv", "--no-new-privs"]
    command = ["env", "-i", *(f"{name}={value}" for name, value in variables.items()), *arguments.command]
    words = [*words_for(_ROOT), *_mounts(arguments.volume, host), "--", *user, *command]
    if not arguments.detach:
        os.execvp(words[0], words)
    with (host / f"{arguments.name}.log").open("w") as log:
        # Ended by its number: no namespace of processes has it in its hands.
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (host / f"{arguments.name}.pid").write_text(str(process.pid))
    sys.stdout.write(f"{arguments.name}\n")


if __name__ == "__main__":
    main()
