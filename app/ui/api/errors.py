"""How an endpoint refuses: with one line that a client can show, and never with what only the terminal should see."""

from __future__ import annotations

import functools
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable

from app.config import ROOT
from app.sharing.visitor import as_visitor
from app.studio import Studio
from app.ui.public.visitors import Visitors
from lavie.errors import LavieError, short

MAX_MESSAGE = 500  # characters

_log = logging.getLogger(__name__)


def answering(work: Callable[..., typing.Any], studio: Studio) -> Callable[..., Awaitable[typing.Any]]:
    """The same endpoint, in a thread where it may block, with every refusal as a message for the client."""
    import gradio as gr
    from gradio.context import LocalContext
    from starlette.concurrency import run_in_threadpool

    visitors = Visitors(studio)

    @functools.wraps(work)
    async def answer(*values, **named):
        try:
            with as_visitor(visitors.of(LocalContext.request.get(None))):
                if inspect.iscoroutinefunction(work):
                    return await work(*values, **named)
                return await run_in_threadpool(work, *values, **named)
        except LavieError as error:
            message = str(error)
        except Exception as error:
            _log.exception("%s failed", work.__name__)
            message = f"something went wrong inside ({type(error).__name__}); the studio's terminal shows where"
        raise gr.Error(_public(message, studio), print_exception=False)

    return answer


def check_count(block_fn: typing.Any, inputs: list[typing.Any]) -> None:
    """In place of gradio's own check of a call's values, whose message never reaches the client."""
    import gradio as gr

    if len(inputs) < len(block_fn.inputs):
        wanted = f"{len(block_fn.inputs)} values in `data`, not {len(inputs)}"
        raise gr.Error(f"/{block_fn.api_name} takes {wanted}: with /call/v2 they are named", print_exception=False)


def refusals(names: typing.Collection[str]) -> dict[type[Exception], Callable]:
    """FastAPI's handlers for what gradio raises itself at a name that it does not know. names: of the endpoints."""
    from gradio.route_utils import FnIndexInferError
    from starlette.responses import JSONResponse

    async def refuse(request, error):
        if not request.url.path.startswith("/gradio_api/call/"):
            raise error
        named = request.path_params.get("api_name", "")
        if named in names:
            return JSONResponse({"error": str(error).partition(". Please")[0]}, 422)
        return JSONResponse({"error": f"no endpoint is called {short(named)}: choose one of {', '.join(names)}"}, 404)

    return dict.fromkeys((FnIndexInferError, KeyError, TypeError), refuse)


def _public(message: str, studio: Studio) -> str:
    """One line without the folders of this machine."""
    config = studio.config
    for folder in (config.data.absolute(), config.bundle.absolute().parent, ROOT):
        message = message.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return " ".join(message.split())[:MAX_MESSAGE]
