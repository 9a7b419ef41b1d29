"""The model card of heads: what they are, where they come from, how they are used."""

import datetime
import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from acai_jax.classes import CLASS_NAMES
from acai_jax.errors import CheckpointError
from acai_jax.files import write_file
from acai_jax.network.bank import HeadBank
from acai_jax.network.description import describe
from acai_jax.network.head_config import size_of
from acai_jax.text import printable

if TYPE_CHECKING:
    import jinja2

_MATTER: Final = ("survey", "preset", "classes", "members", "acai_jax_version", "weights_sha256")
_MARKUP: Final = r"([\\`*_{}\[\]<>#|~&$])"


def model_card(bank: HeadBank, path: Path) -> str:
    """A bank's card: Markdown, with facts for programs before it, in YAML.

    Args:
        bank: heads, names and provenance.
        path: of what the card is of: a checkpoint's folder, or a file of `export_heads`.

    Example:
        >>> from acai_jax.network.exchange import load_shipped
        >>> model_card(load_shipped("ztf-simulated"), Path("my/heads.onnx")).splitlines()[:3]
        ['---', 'model: "heads.onnx"', 'survey: "ztf"']
    """
    description = describe(bank)
    facts = {"model": path.name, **{name: description[name] for name in _MATTER}}
    facts |= {"versions": bank.versions, "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"}
    return _template().render(
        # JSON is YAML, in which quoted texts need no care
        matter={name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()},
        bank=bank,
        path=path,
        inputs=bank.survey.inputs,
        size=size_of(bank.heads.config, bank.survey.inputs),
        config=description["config"],
        temperatures=dict(zip(bank.classes, bank.temperatures.tolist(), strict=True)),
        class_names=CLASS_NAMES,
    )


def write_card(bank: HeadBank, path: Path, card: Path) -> None:
    """Writes the card of what lies at `path`.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        write_file(card, model_card(bank, path).encode())
    except OSError as error:
        raise CheckpointError(f"cannot write {card}: {error}") from error


def _template() -> "jinja2.Template":
    import jinja2  # only writers of cards need it

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = _plain
    source = resources.files("acai_jax.network") / "model_card.md.j2"
    return environment.from_string(source.read_text(encoding="utf-8"))


def _plain(value: Any) -> str:
    """A value as text that is no markup, on one line."""
    return re.sub(_MARKUP, r"\\\1", printable(str(value)))
