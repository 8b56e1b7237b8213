"""The house keeps its shape: who may import whom, what stays free of torch, how long a function and a file may be.

Reads the source; imports nothing of it.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "lavie", "extensions")
LIGHT = ("lavie.request", "lavie.events", "lavie.errors", "lavie.video")  # what the gallery and the help need at once
MAX_FUNCTION, MAX_FILE = 60, 300
LONG: dict[str, str] = {}  # what is longer than the limits allow → why


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, Path]:
    """Module name → file, of the three packages."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {module_name(path): path for path in files}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(name: str, only_at_import: bool = False) -> set[str]:
    """Full names of the modules (or members of them) that a module imports."""
    path, found = sources()[name], set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _at_import(tree(path)) if only_at_import else ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def _at_import(node: ast.AST):
    """The statements that importing runs: everything outside functions and `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_import(child)


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offenders(inside: tuple[str, ...], forbidden: tuple[str, ...], except_in: tuple[str, ...] = ()) -> list[str]:
    """`module imports name` for each module under `inside` that imports what it must not."""
    return [
        f"{module} imports {name}"
        for module in sources()
        if under(module, *inside) and not under(module, *except_in)
        for name in sorted(imports(module))
        if under(name, *forbidden)
    ]


def test_the_packages_are_there():
    assert {name.split(".")[0] for name in sources()} >= {"app", "lavie"}


def test_lavie_knows_nothing_above_it():
    assert offenders(("lavie",), ("app", "extensions", "gradio", "sqlite3", "sqlite_utils", "typer", "rich")) == []


def test_extensions_know_neither_the_app_nor_each_other():
    assert offenders(("extensions",), ("app", "gradio", "sqlite3", "sqlite_utils", "typer")) == []
    names = {".".join(module.split(".")[:2]) for module in sources() if module.startswith("extensions.")}
    for name in names:
        assert offenders((name,), tuple(names - {name})) == []


def test_gradio_is_only_in_the_pages():
    assert offenders(PACKAGES, ("gradio", "gradio_client"), except_in=("app.ui",)) == []


def test_only_the_database_and_its_schema_know_sqlite():
    assert (
        offenders(PACKAGES, ("sqlite3", "sqlite_utils"), except_in=("app.storage.database", "app.storage.schema")) == []
    )


@pytest.mark.parametrize("start", LIGHT)
def test_values_need_no_torch(start):
    reached, waiting = set(), [start]
    while waiting:
        module = waiting.pop()
        parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]  # their __init__ runs as well
        for name in (module, *parents):
            if name in sources() and name not in reached:
                reached.add(name)
                waiting += imports(name, only_at_import=True)
        if module not in sources():
            reached.add(module)
    heavy = {name for name in reached if under(name, "torch", "diffusers", "transformers", "gradio", "safetensors")}
    assert not heavy, f"{start} reaches {sorted(heavy)}"


def own_files() -> list[Path]:
    folders = (*PACKAGES, "bench", "tests")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))] + [ROOT / "app.py"]


def test_functions_and_files_are_short():
    long, needed = [], set()
    for path in own_files():
        where = path.relative_to(ROOT).as_posix()
        sizes = {where: (len(path.read_text(encoding="utf-8").splitlines()), MAX_FILE)}
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                sizes[f"{where}:{node.name}"] = (node.end_lineno - node.lineno + 1, MAX_FUNCTION)
        for name, (lines, limit) in sizes.items():
            if lines > limit:
                needed.add(name)
                long += [f"{name} has {lines} lines, more than {limit}"] if name not in LONG else []
    assert long == []
    assert set(LONG) == needed, "LONG lists what is short now: take it out"
