"""The real page as a Space with a lent device has it, over a cascade without weights.

python -m tests.servers.space DATA PORT
"""

import contextlib
import signal
import sys
from pathlib import Path

from app.config import Space, StudioConfig
from app.studio import Studio
from app.ui.build import launch
from tests.app.space import fakes, spaces_standin

if __name__ == "__main__":
    sys.modules["spaces"] = spaces_standin
    data, port = sys.argv[1:]
    config = StudioConfig(data=Path(data), port=int(port), space=Space(zero_gpu=True))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        launch(config, Studio(config, load=fakes.load))
