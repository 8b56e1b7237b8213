"""Cuts the figures out of a folder of whole tensors: `python -m tests.reference.record FOLDER`.

FOLDER has `unet_outputs.{json,safetensors}` and `keys_*.json` of the published networks. Run it again when a case is
added there; the suite itself never needs the folder.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from tests.reference.figures import NAMES, OUTPUTS, figures

NETWORKS = ("base", "interpolation", "vsr")


def record(folder: Path) -> None:
    cases = json.loads((folder / "unet_outputs.json").read_text())
    outputs = load_file(folder / "unet_outputs.safetensors")
    for name, case in cases.items():
        case["output"] = figures(outputs[name])
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    OUTPUTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    names = {network: json.loads((folder / f"keys_{network}.json").read_text()) for network in NETWORKS}
    # mtime=0: the same lists give the same bytes
    NAMES.write_bytes(gzip.compress(json.dumps(names, separators=(",", ":")).encode(), 9, mtime=0))


if __name__ == "__main__":
    record(Path(sys.argv[1]))
