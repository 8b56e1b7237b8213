"""The real page over a cascade without weights: `python -m tests.ui.serve_fake DATA PORT STEP_SECONDS`."""

import contextlib
import signal
import sys
from pathlib import Path

from app.config import StudioConfig
from app.studio import Studio
from app.ui import launch
from tests.fakes import FakeCascade

if __name__ == "__main__":
    data, port, seconds = sys.argv[1:]
    config = StudioConfig(data=Path(data), port=int(port))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        launch(config, Studio(config, load=lambda config: FakeCascade(float(seconds), steps=20)))
