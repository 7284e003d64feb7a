"""Tables of plain text."""

from __future__ import annotations

from samnet.core.tables import WIDTH, align_columns, align_numbers, shorten, shorten_all


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


def test_shortened_names_can_be_told_apart() -> None:
    names = [f"vertebra_number_{number}_of_the_whole_body" for number in (1, 12, 17)]
    assert shorten_all([*names, "liver"], 18) == [
        *("...mber_1_of_th...", "...mber_12_of_t...", "...mber_17_of_t...", "liver"),
    ]
    assert shorten_all([names[0], names[0]], 18) == ["vertebra...le_body"] * 2


def test_rows_of_a_table_with_long_names_can_be_told_apart() -> None:
    rows = [["class", "Dice"]]
    rows += [[f"{'structure ' * 9}{number}{' body' * 9}", "0.5"] for number in range(60)]
    lines = align_numbers(rows, has_total=False).splitlines()
    assert len(set(lines)) == 62
    assert max(map(len, lines)) == WIDTH
