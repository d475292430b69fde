"""What reads docs/tutorial-windows.md (tests/support/windows_page.py), on small pages, most of which are wrong."""

import subprocess

import pytest

from support.windows_page import masked, read_blocks, substituted

GOOD = """# A page

<!-- test: file a.ini -->
```ini
a = b
```

```bat
set A=b c
cd /d "%HOME%\\x"
program --one ^
  --two "three four" > file
```

```powershell
$env:A = "b c"
cd "$env:HOME\\x"
program --one `
  --two "three four" | Set-Content -Encoding ascii file
```

```text
a…
```

## Second

<!-- test: skip it is not there -->
```bat
program.exe
```

```powershell
.\\program.exe
```
"""


def test_a_page():
    """Commands, their output, what is saved and what is not typed; PowerShell's words are cmd's."""
    saved, typed, skipped = read_blocks(GOOD)
    assert (saved.how, saved.argument, saved.body) == ("file", "a.ini", "a = b\n")
    assert typed.commands == ["set A=b c", 'cd /d "%HOME%\\x"', 'program --one --two "three four" > file']
    assert typed.commands_by_words == typed.commands_by_powershell
    assert typed.commands_by_words[2] == ["program", "--one", "--two", "three four", ">", "file"]
    assert typed.matches("abc\n")
    assert not typed.matches("abc\nd\n")
    assert (skipped.heading, skipped.how, skipped.argument) == ("Second", "skip", "it is not there")
    assert skipped.commands_by_words == skipped.commands_by_powershell == [["program.exe"]]


@pytest.mark.parametrize(
    ("old", "new"), [("three", "five"), ("$env:A", "$env:B"), ("ascii file", "ascii fil"), ("$env:HOME", "$env:HOM")]
)
def test_another_word_for_powershell(old, new):
    """A block for PowerShell that says something else is noticed."""
    before, begin, rest = GOOD.partition("```powershell")
    typed = read_blocks(before + begin + rest.replace(old, new, 1))[1]
    assert typed.commands_by_words != typed.commands_by_powershell


@pytest.mark.parametrize(
    ("body", "wants"),
    [
        ("program --one", False),
        ('program "a b"', False),
        ("program ^\n  --one", True),
        ("set A=b", True),
        ("program > file", True),
        ("program %A%", True),
        ("here.exe", True),
        ("cd /d x", True),
    ],
)
def test_what_powershell_reads_otherwise(body, wants):
    """Variables, continued lines, output into files and programs of this folder need a block of their own."""
    (block,) = read_blocks(f"```bat\n{body}\n```\n")
    assert block.wants_powershell is wants


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("```ini\na\n```\n", "a block of ini cannot be read"),
        ("<!-- test: fil a -->\n```ini\na\n```\n", "a block of ini cannot be read"),
        ("<!-- test: file a -->\n```bat\na\n```\n", "a block of bat cannot be read"),
        ("```text\na\n```\n", "a block of text has no place"),
        ("```bat\na\n```\n# Next\n```text\na\n```\n", "a block of text has no place"),
        ("```bat\na\n```\n```powershell\na\n```\n```powershell\na\n```\n", "a block of powershell has no place"),
        ("```bat\na\n```\n```text\na\n```\n```powershell\na\n```\n", "a block of powershell has no place"),
        ("```bat\na\n", "no kind or no end"),
        ("<!-- test: skip it -->\n\n```bat\na\n```\n", "a comment no block"),
    ],
)
def test_a_page_that_cannot_be_read(page, told):
    """No block and no comment is left out in silence."""
    with pytest.raises(ValueError, match=told):
        read_blocks(page)


def test_substituted():
    """What is put in has to be in the page."""
    assert substituted("a b", {"a": "c"}) == "c b"
    with pytest.raises(AssertionError):
        substituted("a b", {"d": "c"})


def test_masked():
    """What the Go program prints of secrets is nowhere in what tests keep of it."""
    done = masked(subprocess.CompletedProcess([], 0, "Access Key: A\nSecret Key: canary\nSession Token: canary\n", ""))
    assert done.stdout == "Access Key: A\nSecret Key: ***\nSession Token: ***\n"
