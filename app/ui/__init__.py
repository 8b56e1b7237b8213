"""The page: gradio appears in this package only, and only once it is asked for. Builds the page and serves it.

Does not know how a clip is made: it talks to `app.studio`.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import typing

from app.config import ConfigError, StudioConfig
from app.studio import Studio

if typing.TYPE_CHECKING:
    import gradio as gr

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CSS = """
.lv-stage { display: grid; grid-template-columns: 9rem 1fr 6rem; gap: .75rem; align-items: center; margin: .25rem 0 }
.lv-stage progress { width: 100%; height: .5rem; appearance: none; border: none; border-radius: 1rem; overflow: hidden;
  background: var(--border-color-primary) }
.lv-stage progress::-webkit-progress-bar { background: var(--border-color-primary) }
.lv-stage progress::-webkit-progress-value { background: var(--color-accent); transition: width .3s }
.lv-stage progress::-moz-progress-bar { background: var(--color-accent) }
.lv-stage span:last-child { text-align: right; font-variant-numeric: tabular-nums }
.lv-preview { width: 100%; max-width: 24rem; image-rendering: pixelated; border-radius: .5rem; margin-top: .75rem }
.lv-error { color: var(--error-text-color, #b91c1c); font-weight: 600 }
"""


def build(studio: Studio) -> gr.Blocks:
    """The whole page over a studio, not yet served."""
    import gradio as gr

    from app.ui.create import create_tab

    with gr.Blocks(
        title="LaVie Studio",
        analytics_enabled=False,  # otherwise every start looks up two hosts on the internet
        delete_cache=(3600, 86400),  # seconds: gradio's copies of shown clips would pile up without end
    ) as page:
        gr.Markdown("# LaVie Studio")
        create_tab(page, studio)
    return page


def launch(config: StudioConfig, studio: Studio | None = None) -> None:
    """Serve the page until the process is told to stop; then the step under way ends, and the rest waits in the queue.

    Raises ConfigError if the address cannot be served on, StorageError if another studio works on the data folder.
    """
    _check_address(config.host, config.port)
    with contextlib.closing(studio or Studio(config)) as studio:
        studio.serve()
        page = build(studio)
        try:
            _serve(page, config)
            threading.Event().wait()  # until Ctrl-C or SIGTERM raises here
        except OSError as error:
            reason = f"{config.host}:{config.port} cannot be served on ({error})"
            raise ConfigError(f"{reason}: try another --port") from error
        finally:
            page.close(verbose=False)


def _serve(page: gr.Blocks, config: StudioConfig) -> None:
    import gradio as gr

    page.queue(max_size=64)
    page.launch(
        server_name=config.host,
        server_port=config.port,
        auth=config.auth,
        theme=gr.themes.Soft(),
        css=_CSS,
        allowed_paths=[str(config.clips.absolute())],
        footer_links=[],
        run_history=False,  # would keep every prompt in the browser's storage
        enable_monitoring=False,
        show_error=False,
        max_file_size="1mb",  # this page takes no files
        app_kwargs={"middleware": _middleware(config.host), "openapi_url": None},
        prevent_thread_lock=True,
        quiet=True,  # gradio's own lines offer a public link, which this studio never makes
    )
    print(f"LaVie Studio is open at {page.local_url} (Ctrl-C stops it)", flush=True)


def _middleware(host: str) -> list:
    """At home, answer only to the names of this machine, so that no foreign page reaches it by a name of its own."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return [Middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, "[::1]"])] if host in _LOOPBACK else []


def _check_address(host: str, port: int) -> None:
    """Try the address before anything is built: gradio names neither the port nor the way out. Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, after a restart
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is taken: stop what uses it or give another --port") from None
        raise ConfigError(
            f"{host}:{port} cannot be served on ({error.strerror}): give another --host or --port"
        ) from None
