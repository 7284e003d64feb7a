"""The table of all keys of a plan, for docs/plan_values.md: `make docs` writes it from here."""

from __future__ import annotations

from samnet.plan.configuration import GROUPS, PLAN_KEYS
from samnet.plan.plan_key import PlanKey, Role

_INTRODUCTION = """\
# The values of a plan

Every key of `samnetPlans.json` that can be set, in the file or with `--set KEY=VALUE`. How samnet \
chooses them is in [planning.md](planning.md). A wrong key or value is refused, and the message \
says what is possible.

This page is generated from the declarations in `samnet/plan/configuration.py` by `make docs`.

Axes are numbered 0, 1, 2: Z (from the feet to the head), Y (from the back to the front), X (from \
the left to the right). Lists are written as `--set views=[0,1,2]`; some shells need quotes around \
them.

The last column says what depends on a value. *Resumable*: a resumed training run may change it. \
*Embeddings*: the stored embeddings of a frozen encoder depend on it. *Memory*: the memory of a \
training step depends on it. *Folds*: folds that are averaged have to share it.
"""
_ENDING = """\
`patient_key` and `folds` stand in the plan as well, but belong to the splits: change \
`"patient_key"` in `dataset.json`, or edit `splits_final.json` next to the plan.
"""


def key_table() -> str:
    """Return the page docs/plan_values.md.

    Returns:
        Markdown with one table for each group of keys.
    """
    parts = [_INTRODUCTION]
    for group in GROUPS:
        rows = [_row(key) for key in PLAN_KEYS.values() if key.group == group]
        header = "| key | meaning | values | decided for each | what depends on it |\n"
        parts.append(f"## {group}\n\n{header}|---|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join([*parts, _ENDING])


def _row(key: PlanKey) -> str:
    values = key.possible
    if not values and key.choices is not None:
        values = ", ".join(f"`{choice}`" for choice in key.choices())
    dependents = ", ".join(role.name.lower() for role in Role if role in key.role and role.name)
    cells = (f"`{key.name}`", key.meaning, values, key.scope.value, dependents)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(key_table(), end="")
