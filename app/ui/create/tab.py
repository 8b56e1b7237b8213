"""The Create tab: the form, and beside it the running job and the queue, whose state is pushed by `app.ui.live`."""

from __future__ import annotations

import secrets
import typing
from functools import partial

import gradio as gr

from app.ui.context import EventContext, PageContext, Saved, form_values
from app.ui.create import handlers
from app.ui.create.form import BOUND, Form
from app.ui.create.prompt import adapter_chips, insert_word, prompt_help, remove_tag
from app.ui.panels import QUICK, panel, slot
from lavie.request import SAMPLERS
from lavie.values import MAX_SEED

_SCREEN = f'<section class="lv-live">{slot("picture")}{slot("head")}{slot("bars")}</section>'
Widgets = dict[str, typing.Any]  # name of a field of `Form` → its component


def create_tab(context: PageContext) -> None:
    say, studio = context.say, context.studio
    with gr.Row():
        with gr.Column(scale=5, min_width=320):
            widgets, chips, words, facts = _lay_out_prompt(context)
            generate = gr.Button(say("generate"), variant="primary", elem_id="lv-generate", size="lg")
            with gr.Row(visible=False) as edit_buttons:
                edit_done = gr.Button(say("edit_done"), variant="primary")
                edit_leave = gr.Button(say("edit_leave"))
            answer = panel(name="answer")
            count, each_line = _lay_out_batch(context, widgets)
            _lay_out_advanced(context, widgets)
            context.form = [widgets[name] for name in Form.names()]
            _lay_out_presets(context)
        with gr.Column(scale=6, min_width=320):
            screen, queue = panel(_SCREEN, name="screen"), panel(slot("queue"), name="queue")
            context.openers.append(screen)

    on_queue = context.handler(partial(handlers.handle_queue, studio))
    for buttons in (screen, queue):
        context.drain_after(buttons.act(on_queue, None, None, **QUICK))
    inputs, edited = [*context.form, count, each_line], gr.State(None)
    submits = [generate.click, widgets["seed"].submit]
    context.drain_after(gr.on(submits, context.handler(partial(handlers.submit, studio)), inputs, answer, **QUICK))
    editing = [edited, edit_buttons, generate, answer]
    start_edit, end_edit = (partial(edit, studio) for edit in (handlers.start_edit, handlers.end_edit))
    queue.act(context.handler(start_edit), None, [*editing, *context.form], **QUICK)
    edit_done.click(context.handler(end_edit), [edited, *context.form], editing, **QUICK)
    edit_leave.click(context.handler(handlers.leave_edit), None, editing, **QUICK)
    _wire_prompt(context, widgets["prompt"], chips, words)
    relevant = [widgets[name] for name in Form.names() if name not in (*BOUND, "negative", "style")]
    changes = [context.page.load, context.tab.select, *(widget.change for widget in (*relevant, count))]
    gr.on(changes, context.handler(partial(handlers.estimate, studio)), inputs, facts, **QUICK)


def _lay_out_prompt(context: PageContext) -> tuple[Widgets, gr.HTML, gr.HTML, gr.HTML]:
    say = context.say
    prompt = gr.Textbox(label=say("prompt"), lines=3, placeholder=say("prompt_hint"), elem_id="lv-prompt")
    chips, words = panel(name="worn"), panel(name="words")
    with gr.Row(equal_height=True):
        # Always on: shows that there is a base stage.
        gr.Checkbox(label=say("base"), value=True, interactive=False, elem_classes="lv-switch", min_width=120)
        smooth = gr.Checkbox(label=say("smooth"), info=say("smooth_hint"), elem_classes="lv-switch", min_width=120)
        upscale = gr.Checkbox(label=say("upscale"), info=say("upscale_hint"), elem_classes="lv-switch", min_width=120)
    return {"prompt": prompt, "smooth": smooth, "upscale": upscale}, chips, words, panel(name="facts")


def _lay_out_batch(context: PageContext, widgets: Widgets) -> tuple[gr.Number, gr.Checkbox]:
    """The seed, the number of videos, and whether each line is a prompt."""
    say, studio = context.say, context.studio
    with gr.Row(equal_height=True):
        seed = gr.Textbox(label=say("seed"), placeholder=say("seed_hint"), max_lines=1, scale=3)
        dice = gr.Button(say("seed_dice"), size="sm", scale=1, min_width=80)
        last = gr.Button(say("seed_last"), size="sm", scale=1, min_width=80)
    dice.click(lambda: str(secrets.randbelow(MAX_SEED + 1)), None, seed, **QUICK)
    last.click(context.handler(lambda _: handlers.last_seed(studio)), None, seed, **QUICK)
    with gr.Row():
        count = gr.Number(1, label=say("count"), info=say("count_hint"), precision=0, minimum=1, maximum=100)
        each_line = gr.Checkbox(label=say("each_line"), elem_classes="lv-switch")
    widgets["seed"] = seed
    return count, each_line


def _lay_out_advanced(context: PageContext, widgets: Widgets) -> None:
    """Fields that default to the model's values while they are empty."""
    say = context.say

    def number(name: str) -> gr.Textbox:  # gradio's Number shows 0 when empty
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


def _lay_out_presets(context: PageContext) -> None:
    """Named presets of all fields but prompt and seed."""
    say, presets, form = context.say, context.studio.presets, context.form
    with gr.Accordion(say("presets"), open=False, elem_id="lv-presets"):
        choose = gr.Dropdown(list(presets.all()), value=None, label=say("preset_choose"), info=say("preset_hint"))
        with gr.Row(equal_height=True):
            name = gr.Textbox(label=say("preset_name"), max_lines=1, scale=3)
            save, delete = (gr.Button(say(f"preset_{what}"), size="sm", min_width=80) for what in ("save", "delete"))

    def use_preset(event: EventContext, name: str | None, *values: typing.Any) -> typing.Sequence[typing.Any]:
        preset = presets.all().get(name or "")
        return [gr.skip()] * len(values) if preset is None else form_values(Form(*values).with_preset(preset))

    choose.input(context.handler(use_preset), [choose, *form], form, **QUICK)
    saved = Saved(choose, name, save, delete)
    context.wire_saved(
        saved, form, presets.all, lambda name, *values: presets.save(name, Form(*values).preset()), presets.delete
    )


def _wire_prompt(context: PageContext, prompt: gr.Textbox, chips: gr.HTML, words: gr.HTML) -> None:
    studio = context.studio

    def show(event: EventContext, text: str | None) -> tuple[str, str]:
        text = text or ""
        return adapter_chips(text, studio.adapters.names(), event.say), prompt_help(studio, text, event.say)

    def insert(event: EventContext, text: str | None) -> tuple[str, str]:
        text = insert_word(studio.card, text or "", event.data.get("word", ""))
        return text, prompt_help(studio, text, event.say)

    def remove(event: EventContext, text: str | None) -> tuple[str, str, str]:
        text = remove_tag(text or "", event.data.get("n", ""))
        return text, *show(event, text)

    changes = [context.page.load, context.tab.select, prompt.change]
    gr.on(changes, context.handler(show), prompt, [chips, words], trigger_mode="always_last", **QUICK)
    chips.act(context.handler(remove), prompt, [prompt, chips, words], **QUICK)
    words.act(context.handler(insert), prompt, [prompt, words], **QUICK)
