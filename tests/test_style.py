"""The form of code and texts, as far as a program can check it.

Ruff checks the rest; see `pyproject.toml` for its rules. Every fault is named with file and line.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("samnet", "plans", "benchmarks", "tests", "docs")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Retired words -> what to write instead.
RETIRED = {
    r"sittings?": "session",
    r"economy": "fallback",
    r"stations?": "layer",
    r"mend(s|ed|ing)?": "fix, correct",
    r"trainings": "training runs",
    r"rungs?": "level",
    r"pictures?": "2D image, or figure, plot, overlay",
    r"umbrella": "the name of the thing",
    r"(goes|go|gone|going) on": "resume, continue",
    r"(the|a|no|its) way on|way_on": "how to resume",
    r"gives? way": "fall back",
    r"asked": "requested, given",
    r"one[_-]ahead": "prefetch",
    r"what[_-]if": "alternative",
}
# Functions of a common form, `RULE(facts)`, which the docstring of the package describes.
PLANNING_RULES = ROOT / "samnet" / "planning" / "rules"
# History, the list itself, and the reader of records with the old keys.
MAY_HOLD_RETIRED_WORDS = (
    "CHANGELOG.md",
    "samnet/training/run_record.py",
    "tests/test_style.py",
    "tests/training/test_run_record.py",
)


def compile_words(words: str) -> re.Pattern[str]:
    """Compile a pattern of `RETIRED`.

    It also finds words of an identifier, and words that a line break separates.
    """
    spaced = words.replace(" ", r"[\s_]+")
    return re.compile(f"(?<![a-z])({spaced})(?![a-z])", re.IGNORECASE)


PATTERNS = {compile_words(words): instead for words, instead in RETIRED.items()}


@functools.cache
def find_files(suffix: str) -> tuple[Path, ...]:
    """Find the files of the repository with a suffix, such as `.py`."""
    files = list(ROOT.glob(f"*{suffix}"))
    for folder in FOLDERS:
        files += (ROOT / folder).rglob(f"*{suffix}")
    return tuple(sorted(files))


@functools.cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def place(file: Path, line: int) -> str:
    path = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file.name
    return f"{path}:{line}"


def find_nested_comprehensions(file: Path) -> Iterator[str]:
    """Yield the place of each comprehension that holds another one, at any depth."""
    for node in ast.walk(parse(file)):
        if not isinstance(node, COMPREHENSIONS):
            continue
        inner = [child for child in ast.walk(node) if isinstance(child, COMPREHENSIONS)]
        if len(inner) > 1:
            yield f"{place(file, node.lineno)}: a comprehension within a comprehension"


def find_retired_words(file: Path) -> Iterator[str]:
    """Yield the place of each retired word."""
    text = file.read_text(encoding="utf-8")
    for pattern, instead in PATTERNS.items():
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found = " ".join(match[0].split())
            yield f"{place(file, line)}: {found!r}; write: {instead}"


def is_public(name: str) -> bool:
    return not name.startswith("_")


def find_undocumented(file: Path) -> Iterator[str]:
    """Yield the place of each public definition whose docstring lacks something."""
    module = parse(file)
    if ast.get_docstring(module) is None:
        yield f"{place(file, 1)}: the module has no docstring"
    for node in module.body:
        if isinstance(node, FUNCTIONS) and is_public(node.name):
            yield from _faults_of_function(file, node, node.name)
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from _faults_of_class(file, node)


def _faults_of_class(file: Path, node: ast.ClassDef) -> Iterator[str]:
    if ast.get_docstring(node) is None:
        yield f"{place(file, node.lineno)}: {node.name} has no docstring"
    for method in node.body:
        if not isinstance(method, FUNCTIONS):
            continue
        if method.name != "__init__" and not is_public(method.name):
            continue
        if not _overrides_documented_method(node, method.name):
            yield from _faults_of_function(file, method, f"{node.name}.{method.name}")


def _faults_of_function(file: Path, node: Function, name: str) -> Iterator[str]:
    if any(_last_name(decorator) == "overload" for decorator in node.decorator_list):
        return  # only a type; the function itself follows
    where = place(file, node.lineno)
    docstring = ast.get_docstring(node)
    parameters = _parameters(node)
    if docstring is None:
        if node.name != "__init__" or parameters:
            yield f"{where}: {name} has no docstring"
        return
    documented = _documented_arguments(docstring)
    if file.parent == PLANNING_RULES and parameters == ["facts"]:
        return
    missing = [parameter for parameter in parameters if parameter not in documented]
    unknown = [argument for argument in documented if argument not in parameters]
    if missing:
        yield f"{where}: {name}: Args: lacks {', '.join(missing)}"
    if unknown:
        yield f"{where}: {name}: Args: has {', '.join(unknown)}, which it does not take"


def _parameters(node: Function) -> list[str]:
    """Return the names of the parameters, except `self` and `cls`."""
    arguments = node.args
    entries = [*arguments.posonlyargs, *arguments.args]
    entries += [entry for entry in (arguments.vararg, arguments.kwarg) if entry is not None]
    names = [entry.arg for entry in [*entries, *arguments.kwonlyargs]]
    return [name for name in names if name not in ("self", "cls")]


def _documented_arguments(docstring: str) -> list[str]:
    """Return the names under `Args:`, without the stars of `*args` and `**kwargs`."""
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    if section is None:
        return []
    return re.findall(r"^ {4}\**(\w+)(?: \(.*\))?:", section[1], re.MULTILINE)


def _overrides_documented_method(node: ast.ClassDef, name: str) -> bool:
    """Tell whether a base class in samnet documents the method, and declares it as abstract."""
    for base in _base_classes(node):
        for method in base.body:
            if isinstance(method, FUNCTIONS) and method.name == name and _is_abstract(base, method):
                return ast.get_docstring(method) is not None
    return False


def _base_classes(node: ast.ClassDef) -> Iterator[ast.ClassDef]:
    """Yield the classes of samnet that a class is derived from."""
    for base in node.bases:
        known = _classes().get(_last_name(base))
        if known is not None:
            yield known
            yield from _base_classes(known)


@functools.cache
def _classes() -> dict[str, ast.ClassDef]:
    """Return the classes of samnet by their names."""
    classes = {}
    for file in (ROOT / "samnet").rglob("*.py"):
        for node in parse(file).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
    return classes


def _is_abstract(base: ast.ClassDef, method: Function) -> bool:
    decorators = [_last_name(decorator) for decorator in method.decorator_list]
    return "abstractmethod" in decorators or "Protocol" in map(_last_name, base.bases)


def _last_name(node: ast.expr) -> str:
    """Return `C` of `C`, `b.C` and `C[int]`."""
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


BAD_MODULE = """
def cells(rows, *more):
    '''Return the cells.

    Args:
        rows: Where we
            go on.
        columns: Numbers.
    '''
    return [cell for cell in (row[0] for row in rows)]


class Table:
    def draw_picture(self):
        '''Draw it.'''
"""


def test_checks_find_faults(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    file.write_text(BAD_MODULE)
    assert list(find_nested_comprehensions(file)) == [
        "bad.py:10: a comprehension within a comprehension"
    ]
    assert sorted(find_retired_words(file)) == [
        "bad.py:14: 'picture'; write: 2D image, or figure, plot, overlay",
        "bad.py:7: 'go on'; write: resume, continue",
    ]
    assert list(find_undocumented(file)) == [
        "bad.py:1: the module has no docstring",
        "bad.py:2: cells: Args: lacks more",
        "bad.py:2: cells: Args: has columns, which it does not take",
        "bad.py:13: Table has no docstring",
    ]


def test_no_comprehension_within_a_comprehension() -> None:
    faults = []
    for file in find_files(".py"):
        faults += find_nested_comprehensions(file)
    assert not faults, "name the inner result, or write a loop:\n" + "\n".join(faults)


def test_public_definitions_of_samnet_are_documented() -> None:
    faults = []
    for file in find_files(".py"):
        if file.is_relative_to(ROOT / "samnet"):
            faults += find_undocumented(file)
    assert not faults, "docstrings in Google style, with every parameter:\n" + "\n".join(faults)


def test_no_retired_words() -> None:
    faults = []
    for file in [*find_files(".py"), *find_files(".md")]:
        if str(file.relative_to(ROOT)) not in MAY_HOLD_RETIRED_WORDS:
            faults += find_retired_words(file)
    assert not faults, "words that samnet no longer uses:\n" + "\n".join(faults)
