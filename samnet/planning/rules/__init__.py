"""The rules: one function for each decision, named as its key.

Every rule takes the `Facts`, which include the decisions before it, and returns the value and the
reason. `rules_of` finds a rule by its name. So a new key needs its declaration in
`samnet.plan.configuration` and a function here, and no table.
"""

from __future__ import annotations

from samnet.plan.configuration import PLAN_KEYS
from samnet.plan.plan import SPLIT_KEYS
from samnet.plan.plan_key import Scope
from samnet.planning.rules import copying, intensity, network, slicing, training
from samnet.planning.rules.facts import Rule

_MODULES = (slicing, intensity, network, training, copying)


def rules_of(scope: Scope) -> dict[str, Rule]:
    """Return the rules of the data set, or of a configuration, in the order in which they decide.

    Args:
        scope: Which of the two.

    Returns:
        The rules by key: those of the splits first, then in the declared order of the keys.
    """
    keys = [key.name for key in PLAN_KEYS.values() if key.scope is scope]
    if scope is Scope.DATASET:
        keys = [*SPLIT_KEYS, *keys]
    return {key: _find_rule(key) for key in keys}


def _find_rule(key: str) -> Rule:
    for module in _MODULES:
        rule = getattr(module, key, None)
        if callable(rule) and rule.__module__ == module.__name__:
            return rule
    names = ", ".join(module.__name__ for module in _MODULES)
    raise LookupError(f"no rule {key!r} in {names}")
