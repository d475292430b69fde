"""What a remedy says in the words of the user's system: how a word is quoted, what a program calls a file."""

import sys

if sys.platform == "win32":
    FILE_FORM = "file:C:/absolute/path"
    SHARED_OBJECT = "DLL"
    NOBODY_TO_ASK, NOBODY_TO_ASK_HERE = "no terminal", "no terminal"
    PLAIN_TEXT = "plain text without a byte order mark (PowerShell: Set-Content -NoNewline -Encoding ascii)"
    PRIVATE_FILE = "a file that only you can read"
else:
    FILE_FORM = "file:/absolute/path"
    SHARED_OBJECT = "shared object"
    NOBODY_TO_ASK = "no terminal, no display with a pinentry"
    NOBODY_TO_ASK_HERE = "no terminal and no display with a pinentry"
    PLAIN_TEXT = "plain text"
    PRIVATE_FILE = "a file of mode 0600"


def in_quotes(uri: str) -> str:
    """A URI as one word of a command line, in quotes whether or not it needs them.

    Args:
        uri: percent-encoded, so that there is no quote in it.
    """
    return f'"{uri}"' if sys.platform == "win32" else f"'{uri}'"


def shell_word(text: str) -> str:
    """A text as one word of a command line that is to be typed: in quotes where it needs them.

    Args:
        text: without line ends and, on Windows, double quotes.
    """
    if sys.platform == "win32":
        # cmd and PowerShell both take double quotes, and cmd no others.
        plain = all(character.isalnum() or character in "_-+./:\\@=" for character in text)
        return text if text and plain else f'"{text}"'
    import shlex  # noqa: PLC0415 - for what is mostly not said

    return shlex.quote(text)


def unset(names: str) -> str:
    """How variables are taken out of the environment.

    Args:
        names: with blanks between them.
    """
    return f"take {names} out of the environment" if sys.platform == "win32" else f"unset {names}"
