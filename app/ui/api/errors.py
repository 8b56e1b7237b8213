"""Errors of the endpoints: one line for the client, details in the terminal only."""

from __future__ import annotations

import functools
import inspect
import logging
import typing
from collections.abc import Awaitable, Callable, Collection

import gradio as gr
from gradio.context import LocalContext
from gradio.route_utils import FnIndexInferError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse

from app.config import ROOT
from app.sharing import as_visitor
from app.studio import Studio
from app.ui.public.visitors import Visitors
from lavie.errors import LavieError, short

MAX_MESSAGE = 500  # characters

_log = logging.getLogger(__name__)


def wrap_endpoint(work: Callable[..., typing.Any], studio: Studio) -> Callable[..., Awaitable[typing.Any]]:
    """The endpoint run as the request's visitor, on a thread if it is synchronous, with its errors as messages."""
    visitors = Visitors(studio)

    @functools.wraps(work)
    async def answer(*values: typing.Any, **named: typing.Any) -> typing.Any:
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
        raise gr.Error(_strip_folders(message, studio), print_exception=False)

    return answer


def check_value_count(block_fn: typing.Any, inputs: list[typing.Any]) -> None:
    """Replaces gradio's check of a call's values, whose message does not reach the client."""
    if len(inputs) < len(block_fn.inputs):
        wanted = f"{len(block_fn.inputs)} values in `data`, not {len(inputs)}"
        raise gr.Error(f"/{block_fn.api_name} takes {wanted}: with /call/v2 they are named", print_exception=False)


def exception_handlers(names: Collection[str]) -> dict[type[Exception], Callable[..., typing.Any]]:
    """FastAPI's handlers for gradio's own errors at an unknown endpoint. names: those of the endpoints."""

    async def refuse(request: HttpRequest, error: Exception) -> JSONResponse:
        if not request.url.path.startswith("/gradio_api/call/"):
            raise error
        name = request.path_params.get("api_name", "")
        if name in names:
            return JSONResponse({"error": str(error).partition(". Please")[0]}, 422)
        return JSONResponse({"error": f"no endpoint is called {short(name)}: choose one of {', '.join(names)}"}, 404)

    return dict.fromkeys((FnIndexInferError, KeyError, TypeError), refuse)


def _strip_folders(message: str, studio: Studio) -> str:
    """One line without the folders of this machine."""
    config = studio.config
    for folder in (config.data.absolute(), config.bundle.absolute().parent, ROOT):
        message = message.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return " ".join(message.split())[:MAX_MESSAGE]
