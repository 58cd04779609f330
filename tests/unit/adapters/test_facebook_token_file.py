from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.adapters.facebook_token_file import TokenFile

OLD, NEW = SecretStr("EAAold"), SecretStr("EAAnew")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("EAAold\n")
    file.chmod(0o640)
    return file


def test_a_new_token_takes_the_place_of_the_old_one(path: Path) -> None:
    assert TokenFile(path).replace(OLD, NEW) is None
    assert path.read_text() == "EAAnew\n"
    assert TokenFile(path).read() == NEW
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_a_token_that_somebody_else_has_put_there_stays(path: Path) -> None:
    path.write_text("EAAfrom-a-person")
    problem = TokenFile(path).replace(OLD, NEW)
    assert problem == f"{path} holds another token by now"
    assert path.read_text() == "EAAfrom-a-person"


def test_behind_a_link_is_the_file_that_is_meant(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    assert TokenFile(link).replace(OLD, NEW) is None
    assert link.is_symlink()
    assert path.read_text() == "EAAnew\n"


def test_what_cannot_be_written_stays_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("a secret that is mounted read-only")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert TokenFile(path).replace(OLD, NEW) == f"{path} cannot be written (PermissionError)"
    assert path.read_text() == "EAAold\n"


def test_a_disk_that_is_full_leaves_the_old_one_and_no_draft(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert TokenFile(path).replace(OLD, NEW) == f"{path} cannot be written (OSError)"
    assert path.read_text() == "EAAold\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", None])
def test_what_cannot_be_read_is_none(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert TokenFile(path).read() is None
    assert TokenFile(path).replace(OLD, NEW) is not None


def test_nothing_secret_is_shown(path: Path) -> None:
    file = TokenFile(path)
    file.read()
    assert "EAA" not in f"{file!r} {vars(file)}"
