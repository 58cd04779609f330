"""Every client of Kafka is made from the one connection that the settings describe."""

from __future__ import annotations

import ast
from pathlib import Path

APP = Path(__file__).parents[3] / "app"
# The broker's own owner, which asks it over its plain listener.
WITHOUT = {"kafka_embedded.py"}


def test_the_address_alone_is_taken_from_the_settings_nowhere() -> None:
    users = {
        path.relative_to(APP).as_posix()
        for path in APP.rglob("*.py")
        if ".kafka_bootstrap_servers" in path.read_text(encoding="utf-8")
    }
    assert users == {"adapters/kafka_connection.py"}


def calls(tree: ast.AST, names: set[str]) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]


def test_every_client_of_librdkafka_is_configured_in_one_place() -> None:
    made = 0
    for path in APP.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name in WITHOUT or "confluent_kafka" not in text:
            continue
        for call in calls(ast.parse(text), {"Producer", "Consumer", "AdminClient"}):
            made += 1
            argument = ast.unparse(call.args[0])
            assert argument.startswith(("client_config(", "producer_config(")), f"{path.name}: {argument}"
    assert made >= 5
