from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.core.records import INLINE, LEFT_OUT_BY_DEFAULT, convert, from_json, to_json


@dataclass(frozen=True)
class Point:
    name: str
    position: tuple[float, float]


@dataclass(frozen=True)
class Shape:
    points: tuple[Point, ...]
    corners: dict[str, int]
    closed: bool = True
    note: str | None = None
    extra: Any = None
    tags: dict[str, Point] = field(default_factory=dict)


SHAPE = Shape(
    (Point("a", (0.0, 1.5)), Point("b", (2.0, 3.0))),
    {"a": 1},
    note="x",
    tags={"t": Point("c", (1.0, 1.0))},
)


@pytest.mark.parametrize("shape", [SHAPE, Shape((), {}), Shape((), {}, extra={"any": [1, None]})])
def test_record_survives_json(shape: Shape) -> None:
    assert from_json(Shape, json.loads(json.dumps(to_json(shape))), "file") == shape


def test_from_json_fills_in_defaults_and_takes_whole_numbers_for_floats() -> None:
    loaded = from_json(
        Shape, {"points": [{"name": "a", "position": [1, 2]}], "corners": {}}, "file"
    )
    assert loaded == Shape((Point("a", (1.0, 2.0)),), {})
    assert isinstance(loaded.points[0].position[0], float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pints": []},
            "file: unknown key 'pints'; known are closed, corners, extra, note, points, tags",
        ),
        ({"points": None}, "file: points: expected a list, found None (NoneType)"),
        ({"points": [{"name": "a"}]}, "file: points[0]: the key 'position' is missing"),
        (
            {"points": [{"name": 1, "position": [1, 2]}]},
            "file: points[0]: name: expected text, found 1 (int)",
        ),
        (
            {"points": [{"name": "a", "position": [1]}]},
            "file: points[0]: position: expected 2 values, found 1",
        ),
        (
            {"points": [{"name": "a", "position": [1, "b"]}]},
            "file: points[0]: position[1]: expected a number, found 'b' (str)",
        ),
        ({"points": ["a"]}, "file: points[0]: expected an object, found 'a' (str)"),
        ({"corners": {"a": 1.5}}, "file: corners.a: expected a whole number, found 1.5 (float)"),
        ({"corners": {"a": True}}, "file: corners.a: expected a whole number, found True (bool)"),
        ({"corners": []}, "file: corners: expected an object, found [] (list)"),
        ({"closed": 1}, "file: closed: expected true or false, found 1 (int)"),
        ({"note": 3}, "file: note: expected text, found 3 (int)"),
    ],
)
def test_from_json_names_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    content = {"points": [], "corners": {}} | change
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        from_json(Shape, content, "file")


def test_from_json_names_a_missing_key_and_content_that_is_no_object() -> None:
    with pytest.raises(UserError, match="file: the key 'corners' is missing"):
        from_json(Shape, {"points": []}, "file")
    with pytest.raises(UserError, match=re.escape("file: expected an object, found [1] (list)")):
        from_json(Shape, [1], "file")


def test_convert_shows_a_long_value_in_part() -> None:
    with pytest.raises(UserError) as caught:
        convert(int, "x" * 1000, "file")
    assert len(str(caught.value)) < 120


@dataclass(frozen=True)
class Named:
    values: dict[str, int | tuple[int, ...]]


def test_from_json_takes_the_member_of_a_union_that_fits() -> None:
    named = Named({"one": 1, "some": (2, 3)})
    assert from_json(Named, json.loads(json.dumps(to_json(named))), "file") == named
    for value, message in (
        ("x", r"values\.b: expected a whole number"),
        ([1, "x"], r"values\.b\[1\]: expected a whole"),
        (None, r"values\.b: expected a whole number, found None"),
    ):
        with pytest.raises(UserError, match=message):
            from_json(Named, {"values": {"b": value}}, "file")


@dataclass(frozen=True)
class Colour:
    red: int
    alpha: float = 1.0


@dataclass(frozen=True)
class Paint:
    colour: Colour = field(metadata=INLINE)
    name: str = ""


@dataclass(frozen=True)
class Wall:
    height: int
    paint: Paint = field(metadata=INLINE)


def test_inline_record_has_its_keys_in_the_object_around_it() -> None:
    wall = Wall(3, Paint(Colour(7, 0.5), "brick"))
    content = to_json(wall)
    assert content == {"height": 3, "red": 7, "alpha": 0.5, "name": "brick"}
    assert list(content) == ["height", "red", "alpha", "name"]
    assert from_json(Wall, json.loads(json.dumps(content)), "file") == wall


def test_inline_record_has_defaults_and_conversions_as_any_other() -> None:
    loaded = from_json(Wall, {"height": 3, "red": 7, "alpha": 1}, "file")
    assert loaded == Wall(3, Paint(Colour(7)))
    assert isinstance(loaded.paint.colour.alpha, float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"height": 3}, "file: the key 'red' is missing"),
        ({"height": 3, "red": "x"}, "file: red: expected a whole number, found 'x' (str)"),
        (
            {"height": 3, "red": 7, "paint": {}},
            "file: unknown key 'paint'; known are alpha, height, name, red",
        ),
        (
            {"height": 3, "red": 7, "colour": {"red": 7}},
            "file: unknown key 'colour'; known are alpha, height, name, red",
        ),
    ],
)
def test_inline_record_that_does_not_fit_is_named(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        from_json(Wall, content, "file")


@dataclass(frozen=True)
class Door:
    height: int
    locked: bool = field(default=False, metadata=LEFT_OUT_BY_DEFAULT)
    note: str = ""


def test_field_may_be_left_out_where_it_has_its_default() -> None:
    """Files without it stay as they were before the field existed."""
    assert to_json(Door(2)) == {"height": 2, "note": ""}
    assert to_json(Door(2, True)) == {"height": 2, "locked": True, "note": ""}
    for door in (Door(2), Door(2, True)):
        assert from_json(Door, to_json(door), "file") == door
