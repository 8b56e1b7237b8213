"""Pillow's decoders: every `Image.open` names the formats that it takes, so that no other decoder meets a file.

Reads the source; imports nothing of it.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("app", "lavie", "extensions", "bench", "tools")
ALLOWED = {"PNG", "JPEG", "WEBP", "AVIF", "GIF"}
OTHER_DECODERS = ("imageio", "cv2", "skimage", "matplotlib", "tifffile", "pillow_heif")


def modules() -> dict[str, ast.Module]:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Name → value of the module's assignments."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign) and len(node.targets) == 1]
    return {ast.unparse(node.targets[0]): node.value for node in assigned}


def opened(tree: ast.Module, known: dict[str, ast.expr]) -> list[tuple[int, object]]:
    """Line and formats of each `Image.open`; None where it names none or they are no constant."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
            given = next((one.value for one in node.keywords if one.arg == "formats"), None)
            given = known.get(given.id) if isinstance(given, ast.Name) else given
            found.append((node.lineno, None if given is None else ast.literal_eval(given)))
    return found


def test_every_picture_is_opened_by_named_decoders():
    trees = modules()
    known = {name: value for tree in trees.values() for name, value in constants(tree).items() if "FORMATS" in name}
    calls = [(path, *call) for path, tree in trees.items() for call in opened(tree, known)]
    assert len(calls) >= 3
    assert [call for call in calls if not call[2] or not set(call[2]) <= ALLOWED] == []


def test_no_other_library_decodes_pictures():
    wrong = []
    for path, tree in modules().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong += [f"{path} imports {name}" for name in names if name.split(".")[0] in OTHER_DECODERS]
    assert wrong == []
