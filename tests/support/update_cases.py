"""The cases of the official helper's own test of `update`, byte for byte."""

from rolekey.vend.credentials_text import KEYS

VALUES = dict(zip(KEYS, ("accessKeyId", "secretAccessKey", "sessionToken"), strict=True))
ALL = "".join(f"{key} = {value}\n" for key, value in VALUES.items())
ID, SECRET, TOKEN = ALL.splitlines(keepends=True)
PREAMBLE = "test\ntest\ntest\n"

# Name, profile, the file before and after; before, no file ends with a line end.
HELPER_CASES = [
    (
        "space-separated-keys",
        "test profile",
        f"{PREAMBLE}[test profile]\naws_access_key_id = test\n[test]\naws_secret_access_key = test",
        f"{PREAMBLE}[test profile]\n{ALL}[test]\naws_secret_access_key = test\n",
    ),
    (
        "profile-with-other-keys",
        "test profile",
        f"{PREAMBLE}[test profile]\naws_access_key_id = test\ntest_key = test\n[test]\naws_secret_access_key = test",
        f"{PREAMBLE}[test profile]\n{ID}test_key = test\n{SECRET}{TOKEN}[test]\naws_secret_access_key = test\n",
    ),
    (
        "commented-profile",
        "test profile",
        f"{PREAMBLE}# [test profile]\naws_access_key_id = test\n[test]\naws_secret_access_key = test",
        (
            f"{PREAMBLE}# [test profile]\naws_access_key_id = test\n[test]\naws_secret_access_key = test\n"
            f"[test profile]\n{ALL}\n"
        ),
    ),
    (
        "profile-does-not-exist",
        "test profile",
        f"{PREAMBLE}[test]\naws_secret_access_key = test",
        f"{PREAMBLE}[test]\naws_secret_access_key = test\n[test profile]\n{ALL}\n",
    ),
    (
        "first-word-in-profile-matches",
        "test",
        f"{PREAMBLE}[test profile]\naws_access_key_id = test\n[test]\naws_secret_access_key = test",
        f"{PREAMBLE}[test profile]\naws_access_key_id = test\n[test]\n{ALL}",
    ),
    (
        "multiple-profiles-with-same-name",
        "test",
        (
            f"{PREAMBLE}[test]\ntest_key = test\n[test profile]\naws_access_key_id = test\n[test]\n"
            "aws_secret_access_key = test"
        ),
        (
            f"{PREAMBLE}[test]\ntest_key = test\n{ALL}[test profile]\naws_access_key_id = test\n[test]\n"
            "aws_secret_access_key = test\n"
        ),
    ),
]
