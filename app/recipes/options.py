"""Options shared by the commands and the HTTP interface, applied to a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lavie.request import Interpolation, Request, SuperResolution


def with_options(
    request: Request,
    *,
    prompt: str | None = None,
    negative: str | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    interpolate: bool | None = None,
    upscale: bool | None = None,
) -> Request:
    """The request with these options; None leaves a value as it is. Raises RequestError.

    steps: for every stage that is on in the result. sampler, guidance: for the base stage.
    """
    return replace(
        _replace_given(request, prompt=prompt, negative_prompt=negative),
        base=_replace_given(request.base, sampler=sampler, steps=steps, guidance=guidance),
        interpolation=_stage(Interpolation, request.interpolation, interpolate, steps),
        super_resolution=_stage(SuperResolution, request.super_resolution, upscale, steps),
    )


def base_only(request: Request) -> Request:
    """The request without the later stages."""
    return replace(request, interpolation=None, super_resolution=None)


def _stage(kind: type, stage: Any, on: bool | None, steps: int | None) -> Any:
    """An optional stage, switched by `on`; a new one has the model's defaults."""
    if not (stage is not None if on is None else on):
        return None
    stage = stage or kind()
    return replace(stage, sampling=_replace_given(stage.sampling, steps=steps))


def _replace_given(value: Any, **changes: Any) -> Any:
    return replace(value, **{name: change for name, change in changes.items() if change is not None})
