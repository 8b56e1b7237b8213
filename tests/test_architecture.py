"""The architecture keeps its rules: who may import whom, where a library may appear, how long code may be.

Reads the source; imports nothing of it.
"""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "lavie", "extensions")
# The packages and modules of app, from the lowest level to the highest: each may import what is above it in this list.
LEVELS = (
    ("config", "media", "recipes", "device"),
    ("models",),
    ("storage",),
    ("sharing", "adapters", "gallery", "presets"),
    ("queue",),
    ("workspace", "status"),
    ("long_videos", "training"),
    ("worker",),
    ("studio",),
    ("ui", "cli"),
)
OPENS_THE_PAGE = ("app.cli.main", "app.ui.build")  # the one import between cli and ui
LIGHT = (  # need no torch: help, lists and the gallery start at once
    "lavie.request",
    "lavie.events",
    "lavie.errors",
    "lavie.video",
    "app.recipes",
    "app.queue",
    "app.gallery",
    "app.cli.main",
)
HEAVY = ("torch", "diffusers", "transformers", "safetensors", "gradio")
MAX_FUNCTION, MAX_FILE = 60, 500
MAX_MODULES_IN_APP = 10
MAX_FILES_IN_FOLDER = 12
MORE_FILES_FOR_A_REASON = {
    "app/cli": 20,  # a file a command group
    "lavie": 26,  # the library's public modules: `lavie.request`, `lavie.unet`, …
}
MAX_FILES, MAX_WITH_ONE_IMPORTER = 245, 45
SHORT = 30  # lines: a shorter file with one importer belongs to that importer
SHORT_FOR_A_REASON: dict[str, str] = {}  # module → why it stands alone
LONG_FOR_A_REASON: dict[str, str] = {}  # file, or file:function → why it is longer than the limits


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


@cache
def imports(name: str, only_at_import: bool = False) -> frozenset[str]:
    """Full names of the modules (or members of them) that a module imports, for typing too."""
    found = set()
    for node in at_import(tree(sources()[name])) if only_at_import else ast.walk(tree(sources()[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


@cache
def imported_modules(name: str) -> frozenset[str]:
    """The modules of the three packages that a module imports; a package counts where a member of it is meant."""
    found = set()
    for node in ast.walk(tree(sources()[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {member if member in sources() else node.module for member in members}
    return frozenset(found & sources().keys() - {name})


@cache
def importers() -> Counter[str]:
    return Counter(target for name in sources() for target in imported_modules(name))


def at_import(node: ast.AST):
    """The statements that importing runs: everything outside functions and `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import(child)


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


def test_imports_are_absolute():
    relative = [
        name
        for name, path in sources().items()
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree(path)))
    ]
    assert relative == []


def test_lavie_knows_nothing_above_it():
    assert offenders(("lavie",), ("app", "extensions", "gradio", "sqlite3", "sqlite_utils", "typer", "rich")) == []


def test_extensions_know_neither_the_app_nor_each_other():
    assert offenders(("extensions",), ("app",)) == []
    names = {".".join(module.split(".")[:2]) for module in sources() if module.startswith("extensions.")}
    for name in names:
        assert offenders((name,), tuple(names - {name})) == []


def test_app_imports_only_downwards():
    levels = {name: level for level, names in enumerate(LEVELS) for name in names}
    modules = [name for name in sources() if name.startswith("app.")]
    assert {name.split(".")[1] for name in modules} <= levels.keys(), "give each package of app its level"
    wrong = []
    for module in modules:
        own = module.split(".")[1]
        for target in imported_modules(module):
            other = target.split(".")[1] if target.startswith("app.") else own
            between_tops = {own, other} == {"ui", "cli"}
            if (levels[other] > levels[own] or between_tops) and (module, target) != OPENS_THE_PAGE:
                wrong.append(f"{module} imports {target}")
    assert wrong == []


def test_nothing_below_the_studio_names_it():
    below = [name for name in sources() if under(name, *(f"app.{part}" for level in LEVELS[:-2] for part in level))]
    named = [
        name
        for name in below
        if any(
            "Studio" in (getattr(node, "id", ""), getattr(node, "attr", "")) for node in ast.walk(tree(sources()[name]))
        )
        or under_any(imports(name), "app.studio")
    ]
    assert named == []


def under_any(names: frozenset[str], package: str) -> bool:
    return any(under(name, package) for name in names)


def test_no_modules_import_each_other_in_a_circle():
    order: dict[str, int] = {}
    circles, open_ = [], []

    def visit(name: str) -> int:
        order[name] = lowest = len(order)
        open_.append(name)
        for target in sorted(imported_modules(name)):
            if target not in order:
                lowest = min(lowest, visit(target))
            elif target in open_:
                lowest = min(lowest, order[target])
        if lowest == order[name]:
            circle = [open_.pop()]
            while circle[-1] != name:
                circle.append(open_.pop())
            circles.extend([sorted(circle)] if len(circle) > 1 else [])
        return lowest

    for name in sources():
        if name not in order:
            visit(name)
    assert circles == []


@pytest.mark.parametrize(
    ("libraries", "room"),
    [
        (("gradio", "gradio_client"), "app.ui"),
        (("sqlite3", "pysqlite3", "sqlite_utils"), "app.storage"),
        (("typer", "click"), "app.cli"),
    ],
)
def test_a_library_appears_in_one_room(libraries, room):
    assert offenders(PACKAGES, libraries, except_in=(room,)) == []


def test_the_page_imports_gradio_at_the_top():
    inside = [
        name
        for name in sources()
        if under(name, "app.ui") and under_any(imports(name), "gradio") and not under_any(imports(name, True), "gradio")
    ]
    assert inside == []


@pytest.mark.parametrize("start", LIGHT)
def test_light_modules_need_no_torch(start):
    reached, waiting = set(), [name for name in sources() if under(name, start)]
    while waiting:
        module = waiting.pop()
        parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]  # their __init__ runs as well
        for name in (module, *parents):
            if name in sources() and name not in reached:
                reached.add(name)
                waiting += imports(name, only_at_import=True)
        if module not in sources():
            reached.add(module)
    heavy = {name for name in reached if under(name, *HEAVY)}
    assert not heavy, f"{start} reaches {sorted(heavy)}"


def plain_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if path.name != "__init__.py"]


def test_folders_are_small():
    folders = {path.parent for path in sources().values()}
    sizes = {folder.relative_to(ROOT).as_posix(): len(plain_files(folder)) for folder in folders}
    limits = {"app": MAX_MODULES_IN_APP, **MORE_FILES_FOR_A_REASON}
    assert {name: size for name, size in sizes.items() if size > limits.get(name, MAX_FILES_IN_FOLDER)} == {}


def test_the_source_is_not_cut_into_slivers():
    assert len(sources()) <= MAX_FILES
    plain = [name for name, path in sources().items() if path.name != "__init__.py"]
    alone = [name for name in plain if importers()[name] == 1]
    assert len(alone) <= MAX_WITH_ONE_IMPORTER, alone
    short = {name for name in alone if len(sources()[name].read_text(encoding="utf-8").splitlines()) < SHORT}
    assert short == set(SHORT_FOR_A_REASON)


def own_files() -> list[Path]:
    folders = (*PACKAGES, "bench", "tests", "tools")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))] + [ROOT / "app.py"]


def test_functions_and_files_are_short():
    long, needed = [], set()
    for path in own_files():
        where = path.relative_to(ROOT).as_posix()
        sizes = {where: (len(path.read_text(encoding="utf-8").splitlines()), MAX_FILE)}
        for node in ast.walk(tree(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                sizes[f"{where}:{node.name}"] = (node.end_lineno - node.lineno + 1, MAX_FUNCTION)
        for name, (lines, most) in sizes.items():
            if lines > most:
                needed.add(name)
                long += [f"{name} has {lines} lines, more than {most}"] if name not in LONG_FOR_A_REASON else []
    assert long == []
    assert set(LONG_FOR_A_REASON) == needed, "LONG_FOR_A_REASON lists what is short now: take it out"
