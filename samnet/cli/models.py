"""`samnet_models`: list the models and base weights on this machine."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.epilog = (
        "Models lie in $samnet_results, base weights in $samnet_checkpoints. The Dice is the mean "
        "over the classes, of held-out cases; of an installed model it is the one that its archive "
        "states. The date is that of the newest weights."
    )


def _run(options: argparse.Namespace) -> None:
    import json

    from samnet.core.paths import describe_results_folder, results_folder
    from samnet.core.records import to_json
    from samnet.sharing.installed import (
        find_base_weights,
        find_installed,
        format_base_weights,
        format_models,
    )

    models, weights = find_installed(), find_base_weights()
    if options.json:
        content = {"models": to_json(models), "base_weights": to_json(weights)}
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    nothing = f"no models in {results_folder()} ({describe_results_folder()})"
    print(format_models(models) if models else nothing)
    print()
    print(format_base_weights(weights))


COMMAND = Command(
    "samnet_models",
    "List the trained and installed models on this machine, and the base weights.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_models", "list models and base weights"),
        ("samnet_models --json", "print the same for programs"),
    ),
)
main = COMMAND.main
