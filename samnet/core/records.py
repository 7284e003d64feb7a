"""Frozen dataclasses to JSON and back. A wrong key, a missing key or a wrong type is named."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Hashable
from typing import Any, TypeVar

from samnet.core.errors import UserError

Record = TypeVar("Record")
# Marks a field that holds a record whose own keys stand in the JSON object of the record around it.
INLINE = {"inline": True}
# Marks a field that is left out of the JSON object where it has its default.
LEFT_OUT_BY_DEFAULT = {"left_out_by_default": True}
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def to_json(value: Any) -> Any:
    """Turn dataclasses into dicts and tuples into lists, at any depth.

    Args:
        value: Anything made of dataclasses, dicts, lists, tuples and plain values.

    Returns:
        The same content as `json` can write it.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        content: dict[str, Any] = {}
        for field in dataclasses.fields(value):
            entry = to_json(getattr(value, field.name))
            if field.metadata.get("left_out_by_default") and entry == field.default:
                continue
            content |= entry if _is_inline(field) else {field.name: entry}
        return content
    if isinstance(value, dict):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    return value


def from_json(record: type[Record], content: Any, where: str) -> Record:
    """Build a record from parsed JSON.

    Args:
        record: The dataclass to build.
        content: What `json` has read.
        where: What to call the place in messages: a file, then the path of keys.

    Returns:
        The record, with every value in its annotated type.

    Raises:
        UserError: A key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(content, dict):
        raise UserError(f"{where}: expected an object, found {_show(content)}")
    fields = _json_fields(typing.cast(Hashable, record))
    unknown = sorted(set(content) - set(fields))
    if unknown:
        raise UserError(
            f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(fields))}"
        )
    missing = [
        name for name, (_, is_required) in fields.items() if is_required and name not in content
    ]
    if missing:
        raise UserError(f"{where}: the key {missing[0]!r} is missing")
    converted = {
        name: convert(fields[name][0], value, f"{where}: {name}") for name, value in content.items()
    }
    return _build(record, converted)


def _build(record: type[Record], values: dict[str, Any]) -> Record:
    """Build a record from converted values by JSON key, and the inline records in it."""
    hints = _type_hints(typing.cast(Hashable, record))
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(record):  # type: ignore[arg-type]
        if _is_inline(field):
            arguments[field.name] = _build(hints[field.name], values)
        elif field.name in values:
            arguments[field.name] = values[field.name]
    return record(**arguments)


def _is_inline(field: dataclasses.Field) -> bool:
    return field.metadata.get("inline", False)


@functools.lru_cache(maxsize=64)
def _json_fields(record: Hashable) -> dict[str, tuple[Any, bool]]:
    """Return key in JSON -> (type, whether it is required), those of inline records included."""
    hints = _type_hints(record)
    found: dict[str, tuple[Any, bool]] = {}
    for field in dataclasses.fields(typing.cast(Any, record)):
        if _is_inline(field):
            found |= _json_fields(hints[field.name])
            continue
        has_default = field.default is not dataclasses.MISSING
        has_factory = field.default_factory is not dataclasses.MISSING
        found[field.name] = (hints[field.name], not (has_default or has_factory))
    return found


@functools.lru_cache(maxsize=64)
def _type_hints(record: Hashable) -> dict[str, Any]:
    # Cached because it evaluates the annotations, and some files hold thousands of records.
    return typing.get_type_hints(record)


def convert(hint: Any, value: Any, where: str) -> Any:
    """Turn a parsed JSON value into an annotated type.

    Args:
        hint: The type: a plain one, a dataclass, a union, `tuple[...]` or `dict[str, ...]`.
        value: What `json` has read.
        where: What to call the place in messages.

    Returns:
        The value in that type.

    Raises:
        UserError: The value does not fit; the message says what was expected and found.
    """
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(typing.get_args(hint), value, where)
    if dataclasses.is_dataclass(hint):
        kind = typing.cast(type, hint)
        return value if isinstance(value, kind) else from_json(kind, value, where)
    if origin is tuple:
        return _convert_tuple(typing.get_args(hint), value, where)
    if origin is dict:
        return _convert_dict(typing.get_args(hint)[1], value, where)
    return _convert_plain(hint, value, where)


def _convert_plain(hint: type, value: Any, where: str) -> Any:
    is_bool = isinstance(value, bool)  # which Python counts among the whole numbers
    if hint is float and isinstance(value, int) and not is_bool:
        return float(value)
    if not isinstance(value, hint) or (is_bool and hint is not bool):
        expected = _TYPE_NAMES.get(hint, hint.__name__)
        raise UserError(f"{where}: expected {expected}, found {_show(value)}")
    return value


def _convert_union(arguments: tuple, value: Any, where: str) -> Any:
    """Convert to the member that takes a list, or one that does not, whichever the value is."""
    if value is None and type(None) in arguments:
        return None
    members = [argument for argument in arguments if argument is not type(None)]
    is_list = isinstance(value, (list, tuple))
    fitting = [member for member in members if (typing.get_origin(member) is tuple) == is_list]
    return convert((fitting or members)[0], value, where)


def _convert_dict(hint: Any, value: Any, where: str) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected an object, found {_show(value)}")
    return {key: convert(hint, entry, f"{where}.{key}") for key, entry in value.items()}


def _convert_tuple(arguments: tuple, value: Any, where: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise UserError(f"{where}: expected a list, found {_show(value)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(value) != len(arguments):
        raise UserError(f"{where}: expected {len(arguments)} values, found {len(value)}")
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(convert(hint, entry, f"{where}[{index}]") for index, (hint, entry) in pairs)


def _show(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) < 60 else text[:57] + '...'} ({type(value).__name__})"
