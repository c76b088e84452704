"""The house rules that hold for the whole source: layers, sizes, documentation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import toxoid

ROOT = Path(toxoid.__file__).parent
LAYERS = [
    *("cli", "loop", "report", "serve", "methods", "audit", "attacks", "judges", "training", "engines"),
    *("data", "lab", "stats", "store", "config", "plugins", "errors", "progress"),
]
LOWEST = {"errors", "progress"}
MAX_FUNCTION = 80
MAX_FILE = 500
FILES = sorted(ROOT.rglob("*.py"))


def package(path: Path) -> str:
    """Return the package of a file; ``""`` for ``__init__`` and ``__main__`` of toxoid itself."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first.startswith("__") else first


def imported(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted module) of every import, also inside functions and type checking blocks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = path.relative_to(ROOT.parent).with_suffix("").parts[: -node.level]
                base = ".".join((*parents, *base.split("."))).rstrip(".")
            if base == "toxoid":
                yield from ((node.lineno, f"toxoid.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT.parent)}:{line}"


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def public(tree: ast.AST, inside: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Yield public classes, functions and methods; what is inside a function is private."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            if not node.name.startswith("_"):
                yield node, f"{inside}{node.name}"
                if isinstance(node, ast.ClassDef):
                    yield from public(node, f"{node.name}.")
        elif isinstance(node, (ast.If, ast.Try)):
            yield from public(node, inside)


def is_overload(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(decorator).endswith(("overload", ".setter")) for decorator in decorators)


def test_every_package_has_its_layer():
    assert {package(path) for path in FILES} - {""} <= set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_package_imports_only_from_layers_below(layer):
    allowed = set(LAYERS[LAYERS.index(layer) + 1 :]) | {layer} | (LOWEST if layer in LOWEST else set())
    wrong = [
        f"{where(path, line)} imports {module}"
        for path in FILES
        if package(path) == layer
        for line, module in imported(tree_of(path), path)
        if module.startswith("toxoid.") and module.split(".")[1] in set(LAYERS) - allowed
    ]
    assert wrong == []


def test_no_function_is_longer_than_a_screen():
    wrong = [
        f"{where(path, node.lineno)} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in FILES
        for node in functions(tree_of(path))
        if node.end_lineno - node.lineno + 1 > MAX_FUNCTION
    ]
    assert wrong == []


def test_no_file_is_longer_than_its_limit():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in FILES}
    assert [where(path, length) for path, length in lengths.items() if length > MAX_FILE] == []


def test_every_module_says_what_it_is():
    assert [where(path, 1) for path in FILES if not ast.get_docstring(tree_of(path))] == []


def test_every_public_name_is_documented():
    wrong = [
        f"{where(path, node.lineno)} {name}"
        for path in FILES
        for node, name in public(tree_of(path))
        if not is_overload(node) and not ast.get_docstring(node)
    ]
    assert wrong == []


@pytest.mark.parametrize("library", ["torch", "transformers", "scipy", "datasets", "httpx"])
def test_packages_themselves_load_no_heavy_library(library):
    wrong = [
        where(path, node.lineno)
        for path in FILES
        if path.name == "__init__.py"
        for node in tree_of(path).body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and library in ast.unparse(node).split()
    ]
    assert wrong == []


def test_nothing_is_unpickled_or_evaluated():
    forbidden = {"pickle", "dill", "shelve", "marshal"}
    wrong = [
        f"{where(path, line)} imports {module}"
        for path in FILES
        for line, module in imported(tree_of(path), path)
        if module.split(".")[0] in forbidden
    ]
    wrong += [
        f"{where(path, node.lineno)} calls {node.func.id}"
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    ]
    assert wrong == []
