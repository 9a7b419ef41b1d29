"""How a command line is read: help that says what is there to say, and status 2 for mistakes."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from acai_jax.errors import AcaiError, UsageError

Command = TypeVar("Command")


def parse(
    command: type[Command] | Command, prog: str, arguments: Sequence[str] | None = None
) -> Command:
    """A command, with the arguments of its line.

    Args:
        command: a frozen dataclass; or an instance of one, whose values are the defaults.
        prog: what the command is called.
        arguments: of the line; by default those of this process.

    Raises:
        UsageError: an argument is none that it takes.
        SystemExit: help was asked for; or, with status 2, the line cannot be read.
    """
    kind = command if isinstance(command, type) else type(command)
    default = tyro.MISSING_NONPROP if command is kind else command
    try:
        return tyro.cli(
            kind,
            prog=prog,
            args=arguments,
            default=default,
            config=(tyro.conf.DisallowNone,),  # no option takes the word None
            registry=quiet_help(),
        )
    except AcaiError as error:  # of a `__post_init__`
        raise UsageError(str(error)) from None


def quiet_help() -> ConstructorRegistry:
    """Makes help say no default where nothing is the default."""
    registry, within = ConstructorRegistry(), [False]

    @registry.struct_rule
    def _(info: StructTypeInfo) -> StructConstructorSpec | None:
        if within[0] or not dataclasses.is_dataclass(info.type):
            return None
        within[0] = True  # what tyro makes of it without this rule
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            within[0] = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        return dataclasses.replace(spec, fields=tuple(map(_quiet, spec.fields)))

    return registry


def _quiet(field: Any) -> Any:
    repeatable = tyro.conf.UseAppendAction in getattr(field.type, "__metadata__", ())
    if field.default not in (None, (), {}) or repeatable:
        return field
    hint = tyro.conf.arg(help_behavior_hint="")
    return dataclasses.replace(field, type=Annotated[field.type, hint])
