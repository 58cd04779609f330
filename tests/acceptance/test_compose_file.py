"""docker-compose.yml and Dockerfile: what Compose accepts, and what the code and the compose file both have to say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import yaml
from pydantic import AliasChoices

from app.adapters.kafka_distribution import KAFKA_VERSION
from app.commands import COMMANDS
from app.settings import FROM_FILES, SETTINGS_FILE, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"

OURS = ("topics", "sandbox", "worker")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    document = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    services: dict[str, Any] = document["services"]
    return services


def compose() -> list[str] | None:
    """The command of whichever Compose this machine has."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], check=False, capture_output=True).returncode == 0
    ):
        return ["docker", "compose"]
    return None


def variables_of_the_settings() -> set[str]:
    """Every environment variable that the application reads."""
    names = {SETTINGS_FILE, *(f"{name}_FILE" for name in FROM_FILES)}
    for name, field in Settings.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            names.add(str(field.validation_alias.choices[0]))
        else:
            names.add(f"AUDIENCE_SYNC_{name.upper()}")
    return names


def test_compose_accepts_the_file(missing_part: Callable[[str], NoReturn]) -> None:
    command = compose()
    if command is None:
        missing_part("neither docker-compose nor the Compose plugin of docker is installed")
    outcome = subprocess.run(
        [*command, "--file", COMPOSE_FILE, "config", "--quiet"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_kafka_is_the_official_image_of_the_tested_version(services: dict[str, Any]) -> None:
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_a_single_kafka_keeps_one_replica_of_everything(services: dict[str, Any]) -> None:
    replicas = {
        name: value
        for name, value in services["kafka"]["environment"].items()
        if name.endswith(("REPLICATION_FACTOR", "MIN_ISR"))
    }
    assert replicas == dict.fromkeys(replicas, 1)
    # Without these two the first group, or the first transaction, waits for brokers that never come.
    assert {
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR",
    } <= replicas.keys()


def test_one_image_is_built_from_here_for_all_our_services(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", *OURS}
    assert {(services[name]["image"], services[name]["build"]) for name in OURS} == {("audience-sync", ".")}


def test_every_service_runs_an_existing_command(services: dict[str, Any]) -> None:
    assert {name: services[name]["command"][0] for name in OURS} == {name: name for name in OURS}
    assert set(OURS) <= COMMANDS.keys()


def test_only_settings_that_exist_are_set(services: dict[str, Any]) -> None:
    known = variables_of_the_settings()
    assert "FACEBOOK_ACCESS_TOKEN_FILE" in known
    for name in ("topics", "worker"):
        environment = services[name]["environment"]
        assert environment.keys() - known == set()
        assert environment["KAFKA_BOOTSTRAP_SERVERS"] in advertised(services["kafka"])
        # A token in the environment would be shown by `docker inspect`.
        assert environment["FACEBOOK_ACCESS_TOKEN_FILE"] == "/run/secrets/facebook_access_token"
        assert "facebook_access_token" in services[name]["secrets"]
    # The image listens for other containers.
    assert services["worker"]["environment"]["AUDIENCE_SYNC_WEB_TOKEN_FILE"] == "/run/secrets/web_token"
    assert services["worker"]["secrets"] == ["facebook_access_token", "web_token"]


def advertised(kafka: dict[str, Any]) -> set[str]:
    listeners = kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    return {listener.partition("://")[2] for listener in listeners}


def test_each_service_waits_for_what_it_needs(services: dict[str, Any]) -> None:
    assert {name: services[name].get("depends_on") for name in services} == {
        "kafka": None,
        "sandbox": None,
        "topics": {"kafka": {"condition": "service_healthy"}},
        "worker": {
            "kafka": {"condition": "service_healthy"},
            # Faust would create missing topics with another number of partitions.
            "topics": {"condition": "service_completed_successfully"},
            "sandbox": {"condition": "service_healthy"},
        },
    }
    assert {name: service["restart"] for name, service in services.items()} == {
        "kafka": "unless-stopped",
        "sandbox": "unless-stopped",
        "topics": "no",
        "worker": "unless-stopped",
    }


def test_ports_are_published_on_this_machine_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_mounted_files_exist(services: dict[str, Any]) -> None:
    document = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    sources = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.split(":")[0] not in document["volumes"]
    ]
    sources += [re.sub(r"\$\{\w+:-(.*)\}", r"\1", secret["file"]) for secret in document["secrets"].values()]
    assert sources
    assert [source for source in sources if not (ROOT / source).is_file()] == []


def test_the_image_is_pinned_unprivileged_and_checked() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert "FROM python:3.12-slim" in lines
    assert 'ENTRYPOINT ["audience-sync"]' in lines
    assert 'CMD ["worker"]' in lines
    install = next(line for line in lines if "pip install" in line)
    assert "--constraint constraints.txt" in install
    assert "[" not in install, "extras have no place in the image"
    user = next(line.split()[1] for line in lines if line.startswith("USER"))
    assert user not in {"root", "0"}
    assert any("HEALTHCHECK" in line for line in lines)
    assert any("/health'" in line for line in lines)


def test_everything_the_image_copies_is_let_through() -> None:
    let_through = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copies = [
        line.split()[1:-1]
        for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY")
    ]
    copied = {name for names in copies for name in names}
    assert copied == let_through
    assert [name for name in copied if not (ROOT / name).exists()] == []
