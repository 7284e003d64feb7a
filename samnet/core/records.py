"""Frozen dataclasses to JSON and back, strictly: an unknown key, a missing key or a wrong type is named."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Hashable
from typing import Any, TypeVar

from samnet.core.errors import UserError

Record = TypeVar("Record")
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def to_json(value: Any) -> Any:
    """Dataclasses become dicts and tuples become lists, at any depth."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    return value


def from_json(record: type[Record], content: Any, where: str) -> Record:
    """Build `record` from parsed JSON.

    where: what to call the place in messages: a file, then the path of keys.

    Raises:
        UserError: a key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected an object, found {_show(content)}")
    fields = {field.name: field for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    unknown = sorted(set(content) - set(fields))
    if unknown:
        raise UserError(
            f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(fields))}"
        )
    missing = [
        name
        for name, field in fields.items()
        if name not in content
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UserError(f"{where}: the key {missing[0]!r} is missing")
    hints = _type_hints(typing.cast(Hashable, record))
    values = {
        name: convert(hints[name], value, f"{where}: {name}") for name, value in content.items()
    }
    return record(**values)


@functools.lru_cache(maxsize=64)
def _type_hints(record: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(
        record
    )  # it evaluates the annotations, and some files hold thousands of records


def convert(hint: Any, value: Any, where: str) -> Any:
    """Turn a parsed JSON value into the annotated type `hint`.

    Raises:
        UserError: the value does not fit; the message has `where`, what was expected and what was found.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        is_list = isinstance(value, (list, tuple))
        remaining = [argument for argument in arguments if argument is not type(None)]
        fitting = [
            argument for argument in remaining if (typing.get_origin(argument) is tuple) == is_list
        ]
        return convert((fitting or remaining)[0], value, where)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):
            return value
        return from_json(typing.cast(type, hint), value, where)
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected an object, found {_show(value)}")
        return {key: convert(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UserError(
            f"{where}: expected {_TYPE_NAMES.get(hint, hint.__name__)}, found {_show(value)}"
        )
    return value


def _convert_tuple(arguments: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: expected a list, found {_show(value)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(
            convert(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(value)
        )
    if len(value) != len(arguments):
        raise UserError(f"{where}: expected {len(arguments)} values, found {len(value)}")
    pairs = zip(arguments, value, strict=True)
    return tuple(
        convert(argument, entry, f"{where}[{index}]")
        for index, (argument, entry) in enumerate(pairs)
    )


def _show(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(value).__name__})"
