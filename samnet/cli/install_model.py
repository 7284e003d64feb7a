"""`samnet_install_model`: install a packed model."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command, positive_float


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="FILE",
        help="a zip file that samnet_export_model wrote, its address (https://...), or a model on "
        "a hub (hf://ORG/NAME[@REVISION])",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="install as configuration NAME, or as DATASET/NAME"
    )
    parser.add_argument("--force", action="store_true", help="replace a model of this name")
    parser.add_argument(
        "--sha256",
        metavar="HASH",
        help="install only if the zip file has this hash (default: print the hash)",
    )
    parser.add_argument(
        "--max-size",
        type=positive_float,
        metavar="GIB",
        help="download at most GIB gibibytes (default: 4)",
    )
    parser.add_argument(
        "--allow-http",
        action="store_true",
        help="accept http:// from other machines; give --sha256 with it, as what arrives may have "
        "been changed on its way",
    )
    parser.epilog = (
        "The model is put into $samnet_results/DATASET/CONFIG. Archives hold no code; names, sizes "
        "and hashes are checked before anything is installed. A hub needs huggingface-hub (pip "
        'install "samnet[hub]").'
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.models.base import advice, locate
    from samnet.sharing.download import DEFAULT_MAX_BYTES, GIB, DownloadRules
    from samnet.sharing.sources import install_from

    max_bytes = DEFAULT_MAX_BYTES if options.max_size is None else int(options.max_size * GIB)
    rules = DownloadRules(options.sha256, max_bytes, options.allow_http)
    installed = install_from(options.source, name=options.name, force=options.force, rules=rules)
    folder, manifest = installed.folder, installed.manifest
    print(f"installed: {folder} ({', '.join(manifest.folds)})")
    print(f"from: {installed.origin}")
    known = "as expected" if options.sha256 else "--sha256 with it installs only this file again"
    print(f"sha256: {installed.sha256} ({known})")
    print(f"predict with: samnet_predict -m {folder} -i IN -o OUT")
    if manifest.base is None:
        return
    file, others = locate(manifest.base)
    state = f"{file} is that file" if file else f"it is not here. {advice(manifest.base)}"
    print(f"it needs {manifest.base}: {state}")
    for other in others:
        print(f"({other} has another content)")


COMMAND = Command(
    "samnet_install_model",
    "Install a model that samnet_export_model has packed, from a file, an address or a model hub.",
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_install_model spleen.zip",
            "install a packed model under the names it was trained with",
        ),
        (
            "samnet_install_model spleen.zip --name Dataset008_Spleen/theirs",
            "install it as the configuration theirs",
        ),
        (
            "samnet_install_model https://example.org/spleen.zip",
            "download a packed model and install it",
        ),
        ("samnet_install_model hf://lab/spleen", "install the newest revision from a model hub"),
    ),
)
main = COMMAND.main
