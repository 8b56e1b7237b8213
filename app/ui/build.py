"""Builds the page and serves it: the only package that imports gradio, loaded when the studio opens."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import gradio as gr

from app.config import ConfigError, StudioConfig
from app.storage.backup import BackupThread, open_backup
from app.studio import Studio
from app.ui import server
from app.ui.adapters import tab as adapters
from app.ui.api.endpoints import create_api
from app.ui.context import PageContext
from app.ui.create import tab as create
from app.ui.gallery import tab as gallery
from app.ui.i18n import Languages
from app.ui.live import Live, LiveForEach
from app.ui.long_video import tab as long_video
from app.ui.panels import panel, slot
from app.ui.public import tab as public
from app.ui.public.visitors import Visitors
from app.ui.settings import tab as settings

WARM_AFTER_SECONDS = 4.0  # importing torch would delay the page: it waits until the browser has loaded


def build(
    studio: Studio,
    languages: Languages | None = None,
    backup_problem: Callable[[], str | None] = lambda: None,
) -> gr.Blocks:
    """Lay out the whole page without serving it.

    Args:
        backup_problem: Returns why a Space's backups fail, None if they do not.
    """
    # A tab's label is the word `tab_<name>`.
    tabs = {
        "create": create.create_tab,
        "long": long_video.create_tab,
        "personalize": adapters.create_tab,
        "gallery": gallery.create_tab,
        "settings": settings.create_tab,
    }
    if studio.config.shared:  # adapters and trainings have no owner: every visitor could change them
        tabs["wall"] = public.create_tab
        del tabs["personalize"]
    languages = languages or Languages()
    blocks: gr.Blocks = gr.Blocks(
        title="LaVie Studio",
        analytics_enabled=False,  # otherwise each start calls two hosts on the internet
        delete_cache=(3600, 86400),  # seconds: remove gradio's copies of shown clips
        fill_width=True,
    )
    with blocks:
        panel(f'<header class="lv-header"><h1>LaVie Studio</h1>{slot("status", "span")}</header>', name="header")
        notes = panel(name="space") if studio.config.space else None
        say = languages.gradio()
        with gr.Tabs(elem_id="lv-tabs") as bar:
            context = PageContext(studio, languages, say, blocks, bar)
            for name, create_tab in tabs.items():
                with gr.Tab(say(f"tab_{name}"), id=name) as context.tab:
                    create_tab(context)
        if notes:
            public.wire_notes(context, notes, backup_problem)
        create_api(blocks, studio)
    return blocks


def launch(config: StudioConfig, studio: Studio | None = None) -> None:
    """Serve the page until SIGINT or SIGTERM. The current step then ends; the queue goes on at the next start.

    Raises ConfigError if the address cannot be served on, StorageError if another studio uses the data folder.
    """
    server.check_address(config.host, config.port)
    server.check_mcp(config)
    with contextlib.ExitStack() as stack:
        backup = open_backup(config)  # restores the data folder, so before it is opened
        studio = studio or Studio(config)
        backup_thread = BackupThread(backup, studio.database) if backup else None
        if backup_thread:
            stack.callback(backup_thread.close)  # after the studio has stored everything
        stack.enter_context(contextlib.closing(studio)).serve()
        if backup_thread:
            backup_thread.start()
        languages = Languages()
        page = build(studio, languages, lambda: backup_thread.trouble if backup_thread else None)
        visitors = Visitors(studio)
        live = LiveForEach(studio, languages, visitors) if visitors.shared else Live(studio, languages)
        try:
            server.serve(page, config, studio, live, languages)
            print(f"LaVie Studio is open at {page.local_url} (Ctrl-C stops it)", flush=True)
            time.sleep(WARM_AFTER_SECONDS)
            studio.warm()
            threading.Event().wait()
        except OSError as error:
            reason = f"{config.host}:{config.port} cannot be served on ({error})"
            raise ConfigError(f"{reason}: try another --port") from error
        finally:
            live.closed = True
            page.close(verbose=False)
