"""Settings of a stream: what cannot be used is refused, and nothing secret is shown."""

from pathlib import Path

import pytest

from acai_jax.errors import StreamError
from acai_jax.stream.settings import ClientSettings, StreamSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"topics": ("../../etc",)}, r"no name of a topic: '\.\./\.\./etc'"),
        ({"topics": (".",)}, "no name of a topic"),
        ({"topics": ("^ztf_.*",)}, "no name of a topic"),
        ({"to_topic": ""}, "no name of a topic"),
        ({"topics": ("a",), "to_topic": "a"}, "is one of the topics to read"),
        ({"filters": ("../x",)}, "cannot name an output"),
        ({"filters": ("",)}, "cannot name an output"),
        ({"batch_size": 0}, "--batch-size"),
        ({"batch_seconds": 0.0}, "--batch-seconds"),
        ({"batch_seconds": float("nan")}, "--batch-seconds"),
        ({"programid": 4}, "--programid"),
    ],
)
def test_what_cannot_be_used_is_refused(changes, message):
    with pytest.raises(StreamError, match=message):
        StreamSettings(bootstrap_servers="localhost:9092", out=Path("out"), **changes)


def test_the_environment_wins_over_the_file_and_secrets_are_hidden(tmp_path):
    path = tmp_path / "kafka.properties"
    path.write_text("# comment\n! another\n\nsasl.username = me\nsasl.password=one=two\n")
    client = ClientSettings(path, {})
    assert client.values == {"sasl.username": "me", "sasl.password": "one=two"}
    assert "one" not in repr(client)
    assert client.redact("me, one=two") == "me, ***"
    client = ClientSettings(path, {"ACAI_JAX_KAFKA_SASL_PASSWORD": "three", "HOME": "/"})
    assert client.values["sasl.password"] == "three"
    assert client.connection() == client.values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sasl.password hunter2", "line 1: not KEY=VALUE"),
        ("a=1\n=hunter2", "line 2: not KEY=VALUE"),
        ("bootstrap.servers=hunter2:9092", "set by --bootstrap-servers"),
        ("enable.auto.commit=hunter2", "set by the stream itself"),
        ("max.in.flight.requests.per.connection=5", "set by the stream itself"),
        ("partition.assignment.strategy=cooperative-sticky", "cooperative is not for a stream"),
        ("group.protocol=Consumer", "consumer is not for a stream"),
    ],
)
def test_files_that_are_no_settings(tmp_path, content, message):
    path = tmp_path / "kafka.properties"
    path.write_text(content)
    with pytest.raises(StreamError, match=message) as caught:
        ClientSettings(path, {})
    assert "hunter2" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(StreamError, match="No such file"):
        ClientSettings(tmp_path / "nowhere", {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StreamError, match="not UTF-8"):
        ClientSettings(tmp_path / "binary", {})


def test_settings_of_a_schema_registry_are_none_of_the_kafka_clients(tmp_path):
    path = tmp_path / "kafka.properties"
    path.write_text(
        "schema.registry.url=http://registry:8081\nbasic.auth.credentials.source=USER_INFO\n"
        "schema.registry.basic.auth.user.info=me:hunter2\nsasl.username=me\n"
    )
    client = ClientSettings(path, {})
    assert client.values == {"sasl.username": "me"}
    assert (client.registry_url, client.registry_login) == ("http://registry:8081", "me:hunter2")
    assert client.redact("me:hunter2, hunter2") == "***, ***"
    with pytest.raises(StreamError, match=r"take schema\.registry\.url and") as caught:
        ClientSettings(None, {"ACAI_JAX_KAFKA_SCHEMA_REGISTRY_SSL_KEY_PASSWORD": "hunter2"})
    assert "hunter2" not in str(caught.value)
