"""Tables of plain text."""

from __future__ import annotations

from samnet.core.tables import WIDTH, align_columns, align_numbers, shorten


def test_shorten_keeps_beginning_and_end() -> None:
    assert shorten("left ventricle 12", 17) == "left ventricle 12"
    assert shorten("left ventricle 12", 11) == "left...e 12"


def test_columns_begin_at_the_same_places() -> None:
    text = align_columns([("fold", "cases", "worst case"), ("all", "12", "a"), ("0", "-", "b b")])
    assert text.splitlines() == ["fold  cases  worst case", "all   12     a", "0     -      b b"]


def test_names_are_shortened_where_numbers_would_not_fit_the_screen() -> None:
    rows = [["class", "Dice"], ["vessel " * 20, "0.5"], ["mean", "0.25"]]
    title, rule, name, _, mean = align_numbers(rows).splitlines()
    assert len(rule) == len(name) == WIDTH
    assert "..." in name
    assert (title[-5:], name[-5:], mean[-5:]) == (" Dice", "  0.5", " 0.25")


def test_table_without_a_total_has_one_rule() -> None:
    text = align_numbers([["class", "Dice"], ["liver", "0.5"]], has_total=False)
    assert text.splitlines() == ["class  Dice", "-----------", "liver   0.5"]
