"""Settings of Kafka's security: where they come from, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.adapters.kafka_client import client_config
from app.adapters.kafka_connection import KafkaConnection, kafka_connection
from app.commands.shown_settings import shown_settings
from app.errors import InvalidInputError
from app.settings import load_settings

SECRET = "zq7-secret-of-kafka"
SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "scram-sha-256",
    "KAFKA_SASL_USERNAME": "ann",
    "KAFKA_SASL_PASSWORD": SECRET,
}


TOKENS = {
    "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
    "KAFKA_SASL_MECHANISM": "OAUTHBEARER",
    "KAFKA_SASL_OAUTHBEARER_METHOD": "oidc",
    "KAFKA_SASL_OAUTHBEARER_CLIENT_ID": "client",
    "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": SECRET,
    "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "https://id.example.com/token",
}


def given(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> KafkaConnection:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return kafka_connection(load_settings())


def test_librdkafka_gets_them_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = given(monkeypatch, {**SASL, "KAFKA_SSL_CA_LOCATION": "/ca.pem"})
    assert connection.options == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-256",
        "sasl.username": "ann",
        "sasl.password": SECRET,
        "ssl.ca.location": "/ca.pem",
    }
    config = client_config(connection, group_id="g")
    assert config["sasl.password"] == SECRET
    assert config["bootstrap.servers"] == "localhost:9092"
    assert SECRET not in f"{connection} {connection!r} {load_settings()!r}"


def test_a_password_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    settings = {**SASL, "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(file)}
    assert given(monkeypatch, settings).options["sasl.password"] == SECRET


OPTIONS = {"socket.timeout.ms": "30000", "client.rack": "r1", "socket.keepalive.enable": "true"}


def test_other_options_come_from_variables_a_table_or_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in OPTIONS.items()}
    plain = {"security.protocol": "plaintext"}
    with monkeypatch.context() as patch:
        assert given(patch, variables).options == plain | OPTIONS
    with monkeypatch.context() as patch:
        json = '{"socket.timeout.ms": 30000, "client.rack": "r1", "socket.keepalive.enable": true}'
        assert given(patch, {"KAFKA_OPTIONS": json}).options == plain | OPTIONS
    file = tmp_path / "settings.toml"
    # With and without quotes: bare, TOML takes the dots for tables.
    file.write_text(
        '[kafka_options]\nsocket.timeout.ms = 1\n"client.rack" = "r1"\nsocket.keepalive.enable = true\n'
    )
    connection = given(monkeypatch, {"AUDIENCE_SYNC_SETTINGS": str(file), "KAFKA_SOCKET_TIMEOUT_MS": "30000"})
    assert connection.options == plain | OPTIONS


def test_variables_of_others_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets such ones for services called kafka, kafka-broker and kafka-client."""
    foreign = {
        "KAFKA_PORT": "tcp://10.0.0.1:9092",
        "KAFKA_SERVICE_HOST": "10.0.0.1",
        "KAFKA_BROKER_SERVICE_HOST": "10.0.0.1",
        "KAFKA_CLIENT_SERVICE_PORT": "1",
        "KAFKA_HEAP_OPTS": "-Xmx1g",
    }
    assert given(monkeypatch, foreign).options == {"security.protocol": "plaintext"}


REFUSED = [
    ({"KAFKA_SECURITY_PROTOCOL": "tls"}, "KAFKA_SECURITY_PROTOCOL: .*sasl_ssl"),
    ({**SASL, "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}, "OAUTHBEARER needs sasl.oauthbearer.method: set KAFKA_SASL_OAUTHBEARER_METHOD"),
    ({**TOKENS, "KAFKA_SASL_OAUTHBEARER_METHOD": "default"}, "sasl.oauthbearer.method: expected oidc"),
    ({**TOKENS, "KAFKA_SASL_PASSWORD": SECRET}, "KAFKA_SASL_PASSWORD is set, and .* OAUTHBEARER, which makes no use of it"),
    ({**TOKENS, "KAFKA_SASL_OAUTHBEARER_GRANT_TYPE": "x"}, "sasl.oauthbearer.grant.type: cannot be set"),
    ({**SASL, "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": SECRET}, "sasl.oauthbearer.client.secret is set, and .* makes no use"),
    ({**SASL, "KAFKA_SASL_MECHANISM": "GSSAPI"}, "KAFKA_SASL_MECHANISM: .*GSSAPI is not supported"),
    ({**SASL, "KAFKA_SASL_MECHANISM": "MD5"}, "KAFKA_SASL_MECHANISM: .*SCRAM-SHA-512"),
    ({**SASL, "KAFKA_SASL_PASSWORD": ""}, "KAFKA_SECURITY_PROTOCOL is sasl_ssl: set KAFKA_SASL_PASSWORD too"),
    # What is meant to protect and would not.
    ({**SASL, "KAFKA_SECURITY_PROTOCOL": "ssl"}, "KAFKA_SASL_MECHANISM is set, and KAFKA_SECURITY_PROTOCOL is ssl"),
    ({"KAFKA_SSL_CA_LOCATION": "/ca.pem"}, "KAFKA_SSL_CA_LOCATION is set, and .* is plaintext"),
    ({"KAFKA_SSL_CRL_LOCATION": "/crl.pem"}, "ssl.crl.location is set, and .* is plaintext"),
    ({"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_KEY_LOCATION": "/k"}, "set KAFKA_SSL_CERTIFICATE_LOCATION too"),
    ({"KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "no"}, "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM"),
    # What one of the two clients has not.
    ({"KAFKA_SSL_KEYSTORE_LOCATION": "/k.p12"}, "ssl.keystore.location: cannot be set: .*openssl pkcs12"),
    ({"KAFKA_SASL_KERBEROS_KEYTAB": "/k"}, "sasl.kerberos.keytab: cannot be set: GSSAPI"),
    ({"KAFKA_SSL_CURVES_LIST": "P-521"}, "ssl.curves.list: cannot be set"),
    ({"KAFKA_SASL_PASSWRD": SECRET}, "sasl.passwrd: cannot be set"),
    # What the guarantees rest on.
    ({"KAFKA_OPTIONS": '{"isolation.level": "read_uncommitted"}'}, "isolation.level: cannot be set"),
    ({"KAFKA_OPTIONS": '{"enable.idempotence": false}'}, "enable.idempotence: cannot be set"),
    ({"KAFKA_OPTIONS": '{"plugin.library.paths": "x"}'}, "plugin.library.paths: cannot be set"),
    ({"KAFKA_OPTIONS": '{"sasl.password": "x"}'}, "sasl.password: set KAFKA_SASL_PASSWORD instead"),
    ({"KAFKA_OPTIONS": '{"sasl.mechanisms": "x"}'}, "sasl.mechanisms: set KAFKA_SASL_MECHANISM instead"),
    ({"KAFKA_OPTIONS": '{"client.rack": null}'}, "client.rack: expected a text"),
    ({"KAFKA_OPTIONS": '{"client.rack": ["a"]}'}, "client.rack: expected a text"),
    ({"KAFKA_OPTIONS": "socket.timeout.ms=3"}, "KAFKA_OPTIONS: expected a JSON object"),
    ({**SASL, "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": "/dev/zero"}, "KAFKA_SASL_PASSWORD_FILE: /dev/zero is longer"),
    ({"KAFKA_OPTIONS": "[1]"}, "KAFKA_OPTIONS: .*expected names and values"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_hold_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        given(monkeypatch, settings)
    assert SECRET not in str(caught.value)


# -- as shown --------------------------------------------------------------------------------------------------------


def test_settings_are_shown_with_their_source_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file, token, key = tmp_path / "settings.toml", tmp_path / "token", tmp_path / "key.pem"
    file.write_text(
        f'partitions = 4\nfacebook_app_secret = "{SECRET}"\nkafka_options = {{"client.rack" = "r"}}\n'
    )
    token.write_text(f"{SECRET}-token")
    key.write_text(f"{SECRET}-key")
    settings = {
        **SASL,
        "AUDIENCE_SYNC_SETTINGS": str(file),
        "AUDIENCE_SYNC_WEB_TOKEN_FILE": str(token),
        "AUDIENCE_SYNC_FACEBOOK_API_URL": f"https://user:{SECRET}@proxy.example.com",
        "KAFKA_SSL_KEY_PEM_FILE": str(key),
        "KAFKA_SOCKET_TIMEOUT_MS": "7",
        "AUDIENCE_SYNC_FACEBOOK_ACCESS_TOKEN": SECRET,  # with the prefix it is read, too
    }
    given(monkeypatch, settings)
    shown = {row.variable: (row.value, row.source) for row in shown_settings(load_settings())}
    assert SECRET not in str(shown)
    assert shown["AUDIENCE_SYNC_PARTITIONS"] == (4, str(file))
    assert shown["AUDIENCE_SYNC_BATCH_ROWS"] == (10_000, "default")
    assert shown["AUDIENCE_SYNC_WEB_TOKEN"] == ("(hidden)", "AUDIENCE_SYNC_WEB_TOKEN_FILE")
    assert shown["KAFKA_SASL_PASSWORD"] == ("(hidden)", "environment")
    assert shown["KAFKA_SASL_USERNAME"] == ("ann", "environment")
    assert shown["KAFKA_SSL_KEY_PASSWORD"] == (None, "default")
    assert shown["FACEBOOK_APP_SECRET"] == ("(hidden)", str(file))
    assert shown["FACEBOOK_ACCESS_TOKEN"] == ("(hidden)", "environment")
    assert shown["AUDIENCE_SYNC_FACEBOOK_API_URL"] == ("https://(hidden)@proxy.example.com", "environment")
    assert shown["KAFKA_OPTIONS client.rack"] == ("r", str(file))
    assert shown["KAFKA_OPTIONS ssl.key.pem"] == ("(hidden)", "KAFKA_SSL_KEY_PEM_FILE")
    assert shown["KAFKA_OPTIONS socket.timeout.ms"] == ("7", "environment")


@pytest.mark.parametrize(
    "token", ["short", "with a space in the middle", "with-umlaut-\u00e4-in-it-and-long"]
)
def test_a_token_that_is_guessed_or_fits_no_header_is_refused(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("AUDIENCE_SYNC_WEB_TOKEN", token)
    with pytest.raises(InvalidInputError, match=r"AUDIENCE_SYNC_WEB_TOKEN: .*16 to 1024") as caught:
        load_settings()
    assert token not in str(caught.value)


def test_that_there_are_no_options_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_OPTIONS", raising=False)
    (row,) = [row for row in shown_settings(load_settings()) if row.variable.startswith("KAFKA_OPTIONS")]
    assert (row.variable, row.value, row.source) == ("KAFKA_OPTIONS", None, "default")
    monkeypatch.setenv("KAFKA_OPTIONS", '{"client.rack": "a"}')
    rows = [row for row in shown_settings(load_settings()) if row.variable.startswith("KAFKA_OPTIONS")]
    assert [(row.variable, row.value) for row in rows] == [("KAFKA_OPTIONS client.rack", "a")]


@pytest.mark.parametrize("name", ["KAFKA_CLIENT_RACK", "KAFKA_SASL_PASSWORD"])
@pytest.mark.parametrize("plain_first", [True, False])
def test_of_a_variable_and_its_file_the_variable_counts(
    name: str, plain_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever the environment has first; the file is not even read."""
    given = [(name, "plain"), (f"{name}_FILE", "/nowhere")]
    for variable, value in given if plain_first else reversed(given):
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "ann")
    if name == "KAFKA_CLIENT_RACK":
        monkeypatch.setenv("KAFKA_SASL_PASSWORD", "secret")
    rows = {row.variable: row for row in shown_settings(load_settings())}
    shown = rows["KAFKA_OPTIONS client.rack" if name == "KAFKA_CLIENT_RACK" else name]
    assert shown.source == "environment"
