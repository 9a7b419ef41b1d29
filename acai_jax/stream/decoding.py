"""Kafka messages -> alerts, wherever the schema of their Avro stands.

In the message (ZTF, BOOM), in its key or a header (Fink), or in a registry, by a number in the
message's first five bytes (Confluent's framing).
"""

import itertools
from typing import TYPE_CHECKING

from acai_jax.alerts import avro
from acai_jax.alerts.framing import FRAME_BYTES, schema_number
from acai_jax.alerts.packet import AlertPacket
from acai_jax.alerts.sources import Encoded, bare_alert, decode
from acai_jax.errors import PacketError, Reject, StreamError, reason_of
from acai_jax.stream.registry import Schemas

if TYPE_CHECKING:
    from confluent_kafka import Message


def decode_message(message: "Message", registry: Schemas | None = None) -> AlertPacket | Reject:
    """The alert of one message, or a reject, whatever its bytes cause.

    Args:
        message: as Kafka gave it.
        registry: where schemas are that the message only has the number of.

    Raises:
        StreamError: the registry refuses us, or was away until the stream was told to stop.
    """
    origin = f"{message.topic()}/{message.partition()}/{message.offset()}"
    try:
        return _decoded(message, registry, origin)
    except StreamError:
        raise  # no fault of the message
    except Exception as error:
        return Reject(reason_of(error), origin=origin)


def _decoded(message: "Message", registry: Schemas | None, origin: str) -> AlertPacket | Reject:
    raw = message.value()
    if raw is None:
        return Reject("empty message", origin=origin)
    if not raw.startswith(avro.MAGIC):
        if schema := _schema_beside(message):
            return bare_alert(schema, raw, origin)
        if number := schema_number(raw):
            if registry is None:
                raise PacketError(
                    "no schema: neither in the message nor in its key or headers; in Confluent's "
                    f"framing, it is schema {number} of a registry: --schema-registry"
                )
            return bare_alert(registry.schema(number), raw[FRAME_BYTES:], origin)
    found = list(itertools.islice(decode(Encoded(origin, raw)), 2))
    if len(found) == 1:
        return found[0]
    number = "more than one record" if found else "no record"
    return Reject(f"not one alert: the container holds {number}", origin=origin)


def _schema_beside(message: "Message") -> bytes | None:
    """The schema in a message's key or in one of its headers, as JSON."""
    beside = [message.key(), *(value for _, value in message.headers() or ())]
    for value in beside:
        text = value.encode() if isinstance(value, str) else value
        if text and text.lstrip().startswith((b"{", b"[")) and b'"fields"' in text:
            return text
    return None
