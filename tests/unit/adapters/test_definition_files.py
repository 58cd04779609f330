from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.adapters.definition_files import MAX_BYTES, read_definitions
from app.errors import InvalidInputError

GOOD = "audiences: [{name: A, when: {event: Größe}}]"


def write(path: Path, text: str = GOOD) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read_definitions(path)
    return str(caught.value)


def test_file(tmp_path: Path) -> None:
    read = read_definitions(write(tmp_path / "any.name"))
    assert [audience.key for audience in read.audiences] == ["a"]


def test_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert len(read_definitions(file).audiences) == 1


def test_folder_is_one_set_sorted_by_name(tmp_path: Path) -> None:
    write(tmp_path / "c.json", '{"audiences": [{"name": "C", "source": "engage"}]}')
    write(tmp_path / "b.yml", "audiences: [{name: B, source: engage}]")
    write(tmp_path / "a.yaml", "defaults: {enabled: false}")
    write(tmp_path / "notes.txt", "[")
    write(tmp_path / ".hidden.yaml", "[")
    (tmp_path / "folder.yaml").mkdir()
    read = read_definitions(tmp_path)
    assert [(audience.key, audience.enabled) for audience in read.audiences] == [("b", False), ("c", False)]


def test_problems_name_the_file_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "x.yaml", "audiences:\n- {}")
    assert refusal(Path("folder")).startswith("folder/x.yaml:2: audiences[0]: ")


def test_missing(tmp_path: Path) -> None:
    path = tmp_path / "audiences.yaml"
    assert refusal(path) == f"{path}: there is no such file: name the audience definitions"


def test_folder_without_files(tmp_path: Path) -> None:
    assert "no file that ends in .yaml, .yml or .json" in refusal(tmp_path)


def test_below_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml")
    assert refusal(file / "b.yaml") == f"{file / 'b.yaml'}: cannot be read: Not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml")
    file.chmod(0)
    assert refusal(file) == f"{file}: cannot be read: Permission denied"


def test_all_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"audiences:\n  - name: Caf\xe9\n")
    (tmp_path / "b.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "c.yaml").symlink_to(tmp_path / "nowhere")
    assert refusal(tmp_path).splitlines() == [
        f"{tmp_path / 'a.yaml'}:2: not UTF-8: save the file in that encoding",
        f"{tmp_path / 'b.yaml'}: larger than 1,048,576 bytes: split it into a folder of files",
        f"{tmp_path / 'c.yaml'}: there is no such file: name the audience definitions",
    ]


def test_largest(tmp_path: Path) -> None:
    assert read_definitions(write(tmp_path / "a.yaml", GOOD.ljust(MAX_BYTES - 2))).audiences
