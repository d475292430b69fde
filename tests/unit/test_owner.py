"""Who gets at a file: the owner and the mode, as POSIX has them; tests/integration/windows has Windows' side."""

import os
import stat
import subprocess

import pytest

from rolekey.base.owner import (
    ANY_USE,
    CHANGE,
    access_of,
    close_to_others,
    create_private_directory,
    create_private_file,
    keep_access,
)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o620, 0o602, 0o644, 0o755, 0o700])
@pytest.mark.parametrize("forbidden", [ANY_USE, CHANGE])
def test_a_mode(mode, forbidden, tmp_path):
    """A mode that allows others what they must not is named, and its remedy closes it; any other one is well."""
    path = tmp_path / "a file"
    path.touch()
    path.chmod(mode)
    access = access_of(path, path, path.stat(), forbidden)
    assert access.owner is None
    if not mode & forbidden:
        assert (access.opening, access.fault) == (None, None)
        return
    assert access.opening == f"mode {mode:04o}"
    assert access.fault == f"has mode {mode:04o}, so that others get at it"
    subprocess.run(access.remedy, shell=True, check=True)
    assert access_of(path, path, path.stat(), forbidden).fault is None


@pytest.mark.rig("root")
def test_an_owner(tmp_path):
    """A file of another user is theirs; the administrator's is as good as ours only where that is said."""
    path = tmp_path / "theirs"
    path.touch(0o600)
    os.chown(path, 12345, 12345)
    access = access_of(path, path, path.stat(), root=True)
    assert (access.owner, access.fault) == ("user 12345", "belongs to user 12345")


def test_what_is_made(tmp_path):
    """A new file and a new directory are this user's alone whatever the umask is, and replace nothing."""
    before = os.umask(0)
    try:
        descriptor = create_private_file(tmp_path / "file")
        create_private_directory(tmp_path / "directory")
    finally:
        os.umask(before)
    os.close(descriptor)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "directory").stat().st_mode) == 0o700
    with pytest.raises(FileExistsError):
        create_private_file(tmp_path / "file")


def test_a_directory_is_closed(tmp_path):
    """A directory of ours that others may look into is closed to them."""
    tmp_path.chmod(0o755)
    close_to_others(tmp_path, tmp_path.stat())
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize(("private", "mode"), [(False, 0o640), (True, 0o600)])
def test_a_mode_is_kept(private, mode, tmp_path):
    """A file that takes another one's place gets its mode; a private one loses what others were allowed."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o640)
    descriptor = create_private_file(new)
    keep_access(descriptor, new, old, old.stat(), private=private)
    os.close(descriptor)
    assert stat.S_IMODE(new.stat().st_mode) == mode
