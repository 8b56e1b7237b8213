"""The queue's commands from outside: what they show and change, with and without a studio beside them."""

import json
import re
from dataclasses import replace

import pytest

from app.queue.worker_side import WorkerQueue
from app.recipes.job_row import CANCELLED, DONE, INTERRUPTED, PAUSED, QUEUED
from app.recipes.recipe import Job
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from tests.app.studios import ENDLESS, ended, until
from tests.fakes import FakeCascade


@pytest.fixture
def studio(make_studio):
    """Not serving: jobs wait."""
    return make_studio(serve=False)


@pytest.fixture
def three(studio):
    return [studio.submit(Request(prompt)) for prompt in ("one", "two", "[bold]three[/bold]")]


@pytest.fixture
def jobs(run):
    """Runs `jobs …`; the JSON on its last line."""

    def jobs(*arguments):
        done = run("jobs", *arguments, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.splitlines()[-1])

    return jobs


def ids(found):
    return [job["id"] for job in found["jobs"]]


def test_the_line_is_shown_in_order(jobs, run, three, studio):
    found = jobs("list")
    assert ids(found) == three and found["queue_paused"] is False
    names = {"id", "kind", "state", "asked", "priority", "attempts", "stage", "step", "steps", "error", "parent"}
    assert found["jobs"][0].keys() >= names | {"prompt", "created", "started", "finished"}
    assert found["jobs"][2]["prompt"] == "[bold]three[/bold]"
    studio.cancel(three[0])
    assert ids(jobs("list")) == three[1:]
    assert ids(jobs("list", "--closed", 5)) == [*three[1:], three[0]]
    shown = run("jobs", "list").stdout
    assert shown.index(three[1]) < shown.index(three[2]) and "[bold]three[/bold]" in shown


def test_the_order_is_changed(jobs, three):
    one, two, last = three
    jobs("first", last)
    assert ids(jobs("list")) == [last, one, two]
    jobs("move", one)
    assert ids(jobs("list")) == [last, two, one]
    jobs("move", one, "--before", two)
    assert ids(jobs("list")) == [last, one, two]


def test_jobs_are_cancelled_paused_and_tried_again(jobs, run, three, studio):
    one, two, last = three
    assert jobs("pause", one)["state"] == PAUSED
    assert jobs("resume", one)["state"] == QUEUED
    assert jobs("cancel", two)["state"] == CANCELLED
    assert jobs("retry", two)["state"] == QUEUED
    assert jobs("cancel-others", last) | {"state": QUEUED} == jobs("list")["jobs"][0]
    assert [studio.job(job_id).state for job_id in three] == [CANCELLED, CANCELLED, QUEUED]
    assert run("jobs", "pause", last).stdout == f"{last} is paused\n"


def test_a_running_job_is_asked(run, make_studio):
    studio = make_studio(FakeCascade(**ENDLESS))
    job_id = studio.submit(Request("a red star"))
    until(lambda: studio.job(job_id).row.step)
    assert re.search(rf"{job_id} +running +base \d+/1000 +a red star", run("jobs", "list").stdout)
    assert run("jobs", "cancel", job_id).exit_code == 0
    assert ended(studio, job_id).state == CANCELLED


def test_a_priority_changes_the_order(jobs, run, three):
    one, two, last = three
    assert jobs("priority", last, 5)["priority"] == 5
    assert jobs("priority", one, -3)["priority"] == -3  # no option
    assert ids(jobs("list")) == [last, two, one]
    done = run("jobs", "priority", one, 1001)
    assert (done.exit_code, "priority is 1001: give a whole number from -1000 to 1000" in done.stderr) == (1, True)
    assert run("jobs", "priority", one, "high").exit_code == run("jobs", "priority", one, "5", "--typo").exit_code == 2
    assert ids(jobs("list")) == [last, two, one]


ASKED = Request("one", negative_prompt="blur", seed=7, width=64, frames=8, base=Sampling("ddim", 9, 3.0, 0.5))
SMOOTH = replace(ASKED, interpolation=Interpolation(Sampling("euler", 4)))


@pytest.mark.parametrize(
    ("before", "options", "after"),
    [
        (ASKED, ["--prompt", "a blue [star]"], {"prompt": "a blue [star]"}),
        (ASKED, ["--seed", 0], {"seed": 0}),
        (ASKED, ["--seed", "random"], {"seed": None}),
        (ASKED, ["--negative", ""], {"negative_prompt": ""}),
        (ASKED, ["--steps", 20], {"base": replace(ASKED.base, steps=20)}),
        (ASKED, ["--sampler", "unipc"], {"base": replace(ASKED.base, sampler="unipc")}),
        (ASKED, ["--guidance", 0], {"base": replace(ASKED.base, guidance=0.0)}),
        (ASKED, ["--interpolate"], {"interpolation": Interpolation()}),
        (ASKED, ["--upscale"], {"super_resolution": SuperResolution()}),
        (ASKED, ["--no-interpolate"], {}),
        (SMOOTH, ["--interpolate"], {}),
        (SMOOTH, ["--no-interpolate"], {"interpolation": None}),
        (
            SMOOTH,
            ["--steps", 20, "--upscale"],
            {
                "base": replace(ASKED.base, steps=20),
                "interpolation": Interpolation(Sampling("euler", 20)),
                "super_resolution": SuperResolution(Sampling(steps=20)),
            },
        ),
    ],
)
def test_an_edit_changes_what_is_given_and_nothing_else(jobs, studio, before, options, after):
    job_id = studio.submit(before)
    found = jobs("edit", job_id, *options)
    assert studio.queue.get(job_id).job == Job(replace(before, **after), "nano")
    assert Job.from_json(json.dumps(found["job"])) == studio.queue.get(job_id).job and found["id"] == job_id


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], 2, "nothing to change: give --prompt, --seed"),
        (["--seed", "-1"], 2, "seed is '-1': give a whole number from 0 to 9007199254740991, or random"),
        (["--seed", "9" * 5000], 2, "give a whole number from 0 to"),
        (["--seed", "Random"], 2, "seed is 'Random'"),
        (["--steps", "0"], 2, "steps is 0: give a whole number from 1 to 1000"),
        (["--sampler", "magic"], 2, "sampler is 'magic': choose one of ddpm"),
        (["--guidance", "51"], 2, "guidance is 51.0: give a number from 0 to 50"),
        (["--prompt", " "], 1, "prompt is empty: say what the video should show"),
    ],
)
def test_a_wrong_edit_changes_nothing(run, three, studio, options, code, words):
    before = studio.queue.get(three[0])
    done = run("jobs", "edit", three[0], "--steps", "5", *options) if options else run("jobs", "edit", three[0])
    assert done.exit_code == code and words in " ".join(done.stderr.split())
    assert studio.queue.get(three[0]) == before


def test_what_is_not_queued_or_makes_a_clip_again_is_not_edited(run, three, studio, make_studio):
    studio.queue.pause(three[0])
    done = run("jobs", "edit", three[0], "--seed", "1")
    words = "is paused: only one that is queued can be edited; `jobs duplicate"
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1) and words in done.stderr
    clip = ended(make_studio(FakeCascade()), three[1]).clip
    studio.queue.pause_queue()
    again = studio.regenerate(clip.id)
    done = run("jobs", "edit", again, "--seed", "1")
    assert (done.exit_code, f"makes the clip {clip.id} again" in done.stderr) == (1, True)


def test_an_edited_job_is_made_as_it_is_then(jobs, make_studio, three):
    jobs("edit", three[0], "--seed", 5, "--upscale", "--steps", 2)
    studio = make_studio(FakeCascade())
    assert ended(studio, three[0]).state == DONE
    recipe = studio.gallery.get(three[0]).recipe.request
    assert (recipe.seed, recipe.base.steps, recipe.super_resolution.sampling.steps) == (5, 2, 2)


def test_a_duplicate_waits_at_the_end(jobs, run, three):
    new = jobs("duplicate", three[0])["id"]
    assert ids(jobs("list")) == [*three, new]
    assert run("jobs", "duplicate", new).stdout.strip() not in ("", new)


def test_the_queue_is_paused_for_every_studio(jobs, run, make_studio, three):
    assert jobs("pause-queue") == {"queue_paused": True}
    assert "the queue is paused: `jobs resume-queue` goes on" in run("jobs", "list").stdout
    studio = make_studio(FakeCascade())
    assert jobs("list")["queue_paused"] is True
    assert jobs("resume-queue") == {"queue_paused": False}
    assert [ended(studio, job_id).state for job_id in three] == [DONE] * 3
    assert run("jobs", "resume-queue").stdout == "the queue goes on\n"


def test_what_was_interrupted_is_resumed(jobs, make_studio, three, studio):
    WorkerQueue(studio.database).take()
    studio.close()
    make_studio(recovery="never").close()
    shown = jobs("list")["jobs"][0]
    assert (shown["state"], shown["error"]) == (INTERRUPTED, "the studio ended before its first step")
    assert jobs("resume", three[0])["state"] == QUEUED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cancel", "nothing"], "no job has the id 'nothing': `jobs list` shows those that are there"),
        (["duplicate", "nothing"], "no job has the id 'nothing'"),
        (["list", "--data", "nowhere"], "there is no data folder nowhere: name one with --data"),
    ],
)
def test_failures_exit_1_with_one_line(run, three, arguments, words):
    done = run("jobs", *arguments)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ") and words in done.stderr


def test_what_a_state_does_not_allow_is_refused(run, three):
    done = run("jobs", "resume", three[0])
    allowed = "only one that is paused or interrupted can be resumed"
    assert (done.exit_code, done.stderr) == (1, f"error: the job {three[0]} is queued: {allowed}\n")
