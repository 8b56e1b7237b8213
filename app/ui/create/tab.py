"""The first tab: what to make, and beside it what is being made.

The job does not hang on the page: its state comes from `app.ui.live`, the same on every page that is open.
"""

from __future__ import annotations

import secrets
import typing
from dataclasses import replace
from functools import partial
from html import escape

from app.studio import Studio
from app.ui import html
from app.ui.context import EventContext, PageContext, filled
from app.ui.create.adapter_chips import chips, remove_tag, tagged
from app.ui.create.form import BOUND, Form
from app.ui.create.memory_forecast import forecast, memory_forecast
from app.ui.create.prompt_help import insert, prompt_help
from app.ui.create.queue import create_queue, handler
from app.ui.panels import QUICK, board, slot
from lavie.errors import LavieError
from lavie.request import MAX_SEED, SAMPLERS

if typing.TYPE_CHECKING:
    import gradio as gr

_SCREEN = f'<section class="lv-live">{slot("picture")}{slot("head")}{slot("bars")}</section>'


def create_tab(shell: PageContext) -> None:
    """Lay out the tab inside the open page and wire it to the studio."""
    import gradio as gr

    say, studio = shell.say, shell.studio
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            widgets, worn, words, facts = _fields(shell)
            generate = gr.Button(say("generate"), variant="primary", elem_id="lv-generate", size="lg")
            with gr.Row(visible=False) as changing:
                edit_done = gr.Button(say("edit_done"), variant="primary")
                edit_leave = gr.Button(say("edit_leave"))
            answer = board(name="answer")
            widgets["seed"], count, each_line = _several(shell)
            _advanced(shell, widgets)
            shell.form = [widgets[name] for name in Form.names()]
            _presets(shell)
        with gr.Column(scale=6, min_width=320):
            screen = board(_SCREEN, name="screen")
            shell.works(screen.act(handler(shell), None, None, **QUICK))
            shell.openers.append(screen)
            lines = create_queue(shell)

    wanted, edited = [*shell.form, count, each_line], gr.State(None)
    asks = [generate.click, widgets["seed"].submit]
    shell.works(gr.on(asks, shell.handler(partial(_submit, studio)), wanted, answer, **QUICK))
    editing = [edited, changing, generate, answer]
    lines.act(shell.handler(partial(_start_edit, studio)), None, [*editing, *shell.form], **QUICK)
    edit_done.click(shell.handler(partial(_end_edit, studio)), [edited, *shell.form], editing, **QUICK)
    edit_leave.click(shell.handler(lambda asked: _not_editing()), None, editing, **QUICK)
    _wire_words(shell, widgets["prompt"], worn, words)
    counted = [widgets[name] for name in Form.names() if name not in (*BOUND, "negative", "style")]
    changed = [shell.page.load, shell.tab.select, *(widget.change for widget in (*counted, count))]
    gr.on(changed, shell.handler(partial(_facts, studio)), wanted, facts, **QUICK)


def _fields(shell: PageContext) -> tuple[dict[str, gr.components.Component], gr.HTML, gr.HTML, gr.HTML]:
    """What comes first: the prompt with its help, the stages, and what will come of them."""
    import gradio as gr

    say = shell.say
    prompt = gr.Textbox(label=say("prompt"), lines=3, placeholder=say("prompt_hint"), elem_id="lv-prompt")
    worn, words = board(name="worn"), board(name="words")
    with gr.Row(equal_height=True):
        # A switch that cannot be turned off, to show that there is always a base stage.
        gr.Checkbox(label=say("base"), value=True, interactive=False, elem_classes="lv-switch", min_width=120)
        smooth = gr.Checkbox(label=say("smooth"), info=say("smooth_hint"), elem_classes="lv-switch", min_width=120)
        upscale = gr.Checkbox(label=say("upscale"), info=say("upscale_hint"), elem_classes="lv-switch", min_width=120)
    return {"prompt": prompt, "smooth": smooth, "upscale": upscale}, worn, words, board(name="facts")


def _several(shell: PageContext) -> tuple[gr.Textbox, gr.Number, gr.Checkbox]:
    """Which seed, how many videos, and whether each line is one."""
    import gradio as gr

    say, studio = shell.say, shell.studio
    with gr.Row(equal_height=True):
        seed = gr.Textbox(label=say("seed"), placeholder=say("seed_hint"), max_lines=1, scale=3)
        dice = gr.Button(say("seed_dice"), size="sm", scale=1, min_width=80)
        last = gr.Button(say("seed_last"), size="sm", scale=1, min_width=80)
    dice.click(lambda: str(secrets.randbelow(MAX_SEED + 1)), None, seed, **QUICK)
    last.click(lambda: _last_seed(studio), None, seed, **QUICK)
    with gr.Row():
        count = gr.Number(1, label=say("count"), info=say("count_hint"), precision=0, minimum=1, maximum=100)
        each_line = gr.Checkbox(label=say("each_line"), elem_classes="lv-switch")
    return seed, count, each_line


def _advanced(shell: PageContext, widgets: dict[str, gr.components.Component]) -> None:
    """What few people need at first. An empty field leaves it to the model."""
    import gradio as gr

    say = shell.say

    def number(name: str) -> gr.Textbox:  # gradio's own field for numbers says 0 where it is empty
        return gr.Textbox("", label=say(name), placeholder=say("model_default"), max_lines=1, min_width=130)

    with gr.Accordion(say("advanced"), open=False, elem_id="lv-advanced"):
        widgets["negative"] = gr.Textbox(label=say("negative"), placeholder=say("negative_hint"), lines=1)
        widgets["style"] = gr.Textbox(label=say("style"), info=say("style_hint"), lines=1)
        with gr.Row():
            choices = [("–", ""), *((name, name) for name in SAMPLERS)]
            widgets["sampler"] = gr.Dropdown(choices, value="", label=say("sampler"), min_width=130)
            for name in ("steps", "guidance", "rescale"):
                widgets[name] = number(name)
        with gr.Row():
            for name in ("width", "height", "frames", "fps"):
                widgets[name] = number(name)
        with gr.Row():
            for name in ("smooth_steps", "upscale_steps", "noise_level"):
                widgets[name] = number(name)


def _presets(shell: PageContext) -> None:
    """Everything but prompt and seed, kept under a name."""
    import gradio as gr

    say, presets, form = shell.say, shell.studio.presets, shell.form
    with gr.Accordion(say("presets"), open=False, elem_id="lv-presets"):
        choose = gr.Dropdown(list(presets.all()), value=None, label=say("preset_choose"), info=say("preset_hint"))
        with gr.Row(equal_height=True):
            name = gr.Textbox(label=say("preset_name"), max_lines=1, scale=3)
            save, delete = (gr.Button(say(f"preset_{what}"), size="sm", min_width=80) for what in ("save", "delete"))

    def choices(value: str | None = None) -> dict:
        return gr.update(choices=list(presets.all()), value=value)

    def use(asked: EventContext, chosen: str | None, *values):
        found = presets.all().get(chosen or "")
        return [gr.skip()] * len(values) if found is None else filled(Form(*values).with_preset(found))

    def keep(asked: EventContext, name: str, *values):
        presets.save(name, Form(*values).preset())
        return choices(name.strip())

    def drop(asked: EventContext, chosen: str | None):
        if chosen:
            presets.delete(chosen)
        return choices()

    choose.input(shell.handler(use), [choose, *form], form, **QUICK)
    save.click(shell.handler(keep), [name, *form], choose, **QUICK)
    delete.click(shell.handler(drop), choose, choose, **QUICK)
    shell.page.load(choices, None, choose, **QUICK)


def _submit(studio: Studio, asked: EventContext, *values):
    """Queue what the form asks for, all of it or nothing."""
    *fields, count, each_line = values
    try:
        requests = Form(*fields).requests(count, each_line)
        for request in requests:
            studio.submit(request)
    except LavieError as error:
        return html.alert(str(error))
    many = asked.say("submitted", count=len(requests))
    return f'<p class="lv-quiet" role="status">{many}</p>' if len(requests) > 1 else ""


def _start_edit(studio: Studio, asked: EventContext):
    """Take a queued job into the form."""
    import gradio as gr

    row = studio.jobs.get(asked.told.get("id", "")) if asked.told.get("act") == "edit" else None
    if row is None:
        return [gr.skip()] * (4 + len(Form.names()))
    prompt = tagged(row.job.request.prompt, row.job.adapters, studio.adapters.names())
    form = filled(replace(Form.of(row.job.request), prompt=prompt))
    note = f'<p class="lv-note" role="status">{escape(asked.say("editing"))}</p>'
    return row.id, gr.Row(visible=True), gr.Button(visible=False), note, *form


def _end_edit(studio: Studio, asked: EventContext, job_id: str | None, *values):
    """Put the form's request in the place of the job's; what it wears stands in its prompt."""
    import gradio as gr

    try:
        if job_id:
            studio.edit(job_id, Form(*values).request(), adapters=())
    except LavieError as error:
        return gr.skip(), gr.skip(), gr.skip(), html.alert(str(error))
    return _not_editing()


def _not_editing():
    import gradio as gr

    return None, gr.Row(visible=False), gr.Button(visible=True), ""


def _wire_words(shell: PageContext, prompt: gr.Textbox, worn: gr.HTML, words: gr.HTML) -> None:
    """Say beside the prompt what the model makes of it and what it wears, and offer the words it knows."""
    import gradio as gr

    studio = shell.studio

    def show(asked: EventContext, text: str):
        return chips(text or "", studio.adapters.names(), asked.say), prompt_help(studio, text, asked.say)

    def put(asked: EventContext, text: str):
        text = insert(studio.card, text or "", asked.told.get("word", ""))
        return text, prompt_help(studio, text, asked.say)

    def off(asked: EventContext, text: str):
        text = remove_tag(text or "", asked.told.get("n", ""))
        return text, *show(asked, text)

    shown, often = [worn, words], {"trigger_mode": "always_last", **QUICK}
    gr.on([shell.page.load, shell.tab.select, prompt.change], shell.handler(show), prompt, shown, **often)
    worn.act(shell.handler(off), prompt, [prompt, *shown], **QUICK)
    words.act(shell.handler(put), prompt, [prompt, words], **QUICK)


def _facts(studio: Studio, asked: EventContext, *values) -> str:
    """What will come of the settings, and how long it takes here: said before the click."""
    *fields, count, _ = values
    try:
        requests = replace(Form(*fields), prompt="any", seed="", style="").requests(count)
    except LavieError as error:
        return html.alert(str(error))
    say, request = asked.say, requests[0]
    outcome = say("outcome", **studio.card.outcome(request)) if studio.card else ""
    estimate = studio.estimates.of_request(request, studio.model)
    words = say("estimate_none")
    if estimate is not None:
        time = html.duration(estimate.seconds * len(requests), say)
        words = say("estimate", time=time)
        if estimate.memory:
            words = say("estimate_memory", time=time, memory=f"{estimate.memory / 2**30:.1f} GiB")
    planned = forecast(memory_forecast(studio, request), bool(estimate and estimate.memory), say)
    return f'<p class="lv-facts">{escape(" · ".join(filter(None, [outcome, words, planned])))}</p>'


def _last_seed(studio: Studio) -> str:
    newest = studio.gallery.newest()
    return str(newest.seed) if newest else ""
