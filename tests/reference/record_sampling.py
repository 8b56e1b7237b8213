"""Cuts the figures out of whole denoising loops: `python -m tests.reference.record_sampling FOLDER`.

FOLDER has `sampling_outputs.{json,safetensors}` of the published networks and samplers; the suite never needs it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from tests.reference.figures import figures

SAMPLING = Path(__file__).parent / "sampling.json"  # case → config, inputs and the figures of the output


def record(folder: Path) -> None:
    cases = json.loads((folder / "sampling_outputs.json").read_text())
    outputs = load_file(folder / "sampling_outputs.safetensors")
    for name, case in cases.items():
        case["output"] = figures(outputs[name])
    lines = [f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items()]
    SAMPLING.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record(Path(sys.argv[1]))
