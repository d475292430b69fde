"""``rolekey credential-process`` on Windows: a key in a file, the cache, and how it says what is wrong."""

import json


def test_a_key_file_and_the_cache(windows, windows_key, emulator):
    """A key in a file gets credentials, silently; the next process has them from the cache."""
    words = ("rolekey", "credential-process", *emulator.arguments, *windows_key)
    done = windows.run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    credentials = json.loads(done.stdout)
    assert [credentials["AccessKeyId"]] == emulator.granted
    again = windows.run(*words)
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout) == credentials
    assert len(emulator.requests) == 1
