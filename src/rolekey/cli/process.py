"""What each system calls in its own way of processes: this one, those that it starts, and where programs are."""

import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from rolekey.errors import CommandError

if TYPE_CHECKING:
    import subprocess  # slow to import; most commands start nothing

# What ends a process from outside: on Windows Ctrl-Break, in place of the hang-up of a terminal.
if sys.platform == "win32":
    ENDING_SIGNALS = (signal.SIGTERM, signal.SIGBREAK)
else:
    ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_ODD_FOR_CMD = frozenset('"&|<>^%!\r\n')
_DESCRIPTORS = "/dev/fd"


def standard_path() -> list[str]:
    """The directories where every program of this machine looks for others, whatever a shell has put before them."""
    if sys.platform == "win32":
        return []  # the working directory comes first there
    return ["/usr/local/bin", "/usr/bin", "/bin", *(["/opt/homebrew/bin"] if sys.platform == "darwin" else [])]


def executable_hint(path: str) -> str:
    """What makes a program of a file that is none.

    Args:
        path: of the file.
    """
    if sys.platform == "win32":
        return "name a program (.exe), a batch file (.cmd, .bat), or what runs this file"
    return f"chmod +x {path}"


def inherited_descriptors() -> set[int]:
    """The descriptors that a command would have; none where the system does not say, or hands none on (Windows)."""
    if sys.platform == "win32":
        return set()
    try:
        numbers = [int(name) for name in os.listdir(_DESCRIPTORS)]  # noqa: PTH208 - no files
    except OSError:
        return set()
    return {number for number in numbers if _is_inherited(number)}


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the one that the list was read from
        return False


def replace_process(program: str, command: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Run a program in place of this one; on Windows, which cannot, as a child, and end with its exit code.

    Args:
        program: its file.
        command: its arguments, from the one with its own name.
        environment: its variables.

    Raises:
        OSError: the system does not run it.
        CommandError: on Windows, a batch file with an argument that would be more than one.
    """
    if sys.platform == "win32":
        import subprocess  # noqa: PLC0415 - for this system alone

        if program.lower().endswith((".bat", ".cmd")) and any(_ODD_FOR_CMD.intersection(word) for word in command[1:]):
            # cmd reads a batch file's arguments anew, whatever quotes they are in.
            raise CommandError(
                f"{program} is a batch file, and an argument has a character that cmd would act on",
                hint='run the program that it starts; no argument of a batch file may have one of " & | < > ^ % !',
            )
        # Ctrl-C reaches both: what becomes of it is the command's affair.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        done = subprocess.run(command, executable=program, env=environment, check=False)  # noqa: S603 - the user's
        code = done.returncode
        sys.exit(code if code < 1 << 31 else code - (1 << 32))  # an NTSTATUS, as the C runtime takes it
    # Python ignores them, and who is ignored stays so.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execve(program, command, environment)  # noqa: S606 - the user's


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a program that was started in a group of its own, with what it has started; on Windows it alone.

    Raises:
        OSError: the system refuses.
    """
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
