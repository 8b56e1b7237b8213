"""The page: gradio appears in this package only, and only once it is asked for. Builds the page and serves it.

    shell.py      what every tab is given            server.py    addresses, login, our two routes
    create.py long …      a tab or a part of one     live.py      the studio's state, pushed to all pages
    form.py       fields ↔ request                   present.py   state → HTML, pure functions
    boards.py     our HTML within gradio's page      language.py theme.py   words and looks
    api.py api_errors.py   the named endpoints       guard.py      what stands in front of every route
    space.py wall.py visitors.py   what a Hugging Face Space shows besides, and who is who there

Does not know how a clip is made: it talks to `app.studio`.
"""

from __future__ import annotations

import contextlib
import threading
import time
import typing
from collections.abc import Callable

from app.config import ConfigError, StudioConfig
from app.storage.backup_thread import BackupThread, open_backup
from app.studio import Studio

if typing.TYPE_CHECKING:
    import gradio as gr

    from app.ui.i18n import Languages

WARM_AFTER_SECONDS = 4.0  # the page first: importing torch holds up everything else


def build(
    studio: Studio, languages: Languages | None = None, trouble: Callable[[], str | None] = lambda: None
) -> gr.Blocks:
    """The whole page over a studio, not yet served. trouble: what keeps snapshots from being taken, on a Space."""
    import gradio as gr

    from app.ui.adapters.tab import create_tab as personalize_tab
    from app.ui.api.endpoints import create_api
    from app.ui.context import PageContext
    from app.ui.create.tab import create_tab
    from app.ui.gallery.tab import create_tab as gallery_tab
    from app.ui.i18n import Languages
    from app.ui.long_video.tab import create_tab as long_tab
    from app.ui.panels import board, slot
    from app.ui.public.space import space_panel
    from app.ui.public.wall import wall_tab
    from app.ui.settings.tab import settings_tab

    # Name → what lays it out; its label is the word `tab_<name>`.
    tabs = {"create": create_tab, "long": long_tab, "personalize": personalize_tab}
    tabs |= {"gallery": gallery_tab, "settings": settings_tab}
    if studio.config.shared:  # adapters and trainings are a studio's, and would be everybody's
        tabs = {**tabs, "wall": wall_tab}
        del tabs["personalize"]
    languages = languages or Languages()
    with gr.Blocks(
        title="LaVie Studio",
        analytics_enabled=False,  # otherwise every start looks up two hosts on the internet
        delete_cache=(3600, 86400),  # seconds: gradio's copies of shown clips would pile up without end
        fill_width=True,
    ) as page:
        board(f'<header class="lv-header"><h1>LaVie Studio</h1>{slot("status", "span")}</header>', name="header")
        space = board(name="space") if studio.config.space else None
        say = languages.gradio()
        with gr.Tabs(elem_id="lv-tabs") as chosen:
            shell = PageContext(studio, languages, say, page, chosen)
            for name, create in tabs.items():
                with gr.Tab(say(f"tab_{name}"), id=name) as shell.tab:
                    create(shell)
        if space:
            space_panel(shell, space, trouble)
        create_api(page, studio)
    return page


def launch(config: StudioConfig, studio: Studio | None = None) -> None:
    """Serve the page until the process is told to stop; then the step under way ends, and the rest waits in the queue.

    Raises ConfigError if the address cannot be served on, StorageError if another studio works on the data folder.
    """
    from app.ui import server
    from app.ui.i18n import Languages
    from app.ui.live import Live
    from app.ui.public.visitors import LiveForEach, Visitors

    server.check_address(config.host, config.port)
    server.check_mcp(config)
    with contextlib.ExitStack() as opened:
        snapshots = open_backup(config)  # before the data folder is opened
        studio = studio or Studio(config)
        keeper = BackupThread(snapshots, studio.database) if snapshots else None
        if keeper:
            opened.callback(keeper.close)  # when all that the studio still stores is there
        opened.enter_context(contextlib.closing(studio)).serve()
        if keeper:
            keeper.start()
        languages = Languages()
        page = build(studio, languages, lambda: keeper and keeper.trouble)
        visitors = Visitors(studio)
        live = LiveForEach(studio, languages, visitors) if visitors.shared else Live(studio, languages)
        try:
            server.serve(page, config, studio, live, languages)
            print(f"LaVie Studio is open at {page.local_url} (Ctrl-C stops it)", flush=True)
            time.sleep(WARM_AFTER_SECONDS)
            studio.warm()
            threading.Event().wait()  # until Ctrl-C or SIGTERM raises here
        except OSError as error:
            reason = f"{config.host}:{config.port} cannot be served on ({error})"
            raise ConfigError(f"{reason}: try another --port") from error
        finally:
            live.closed = True
            page.close(verbose=False)
