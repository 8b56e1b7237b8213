"""The real page over a cascade without weights.

python -m tests.servers.fake DATA PORT STEP_SECONDS [USER:PASSWORD] [--mcp]
"""

import contextlib
import signal
import sys
from pathlib import Path

from app.config import StudioConfig
from app.studio import Studio
from app.ui.build import launch
from tests.fakes import FakeCascade

if __name__ == "__main__":
    data, port, seconds, *auth = (argument for argument in sys.argv[1:] if argument != "--mcp")
    auth = tuple(auth[0].split(":")) if auth else None
    config = StudioConfig(data=Path(data), port=int(port), auth=auth, mcp="--mcp" in sys.argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        launch(config, Studio(config, load=lambda config: FakeCascade(float(seconds), steps=20)))
