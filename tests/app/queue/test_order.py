"""The order of the line, and of what has left it."""

import pytest

from app.queue.queue import MAX_PRIORITY
from app.recipes.job_row import DONE, FAILED
from lavie.errors import RequestError
from tests.app.queue.lines import bring, fill, job, line


def test_the_line_is_first_come_first_served_within_a_priority(jobs, work):
    fill(jobs, "a b")
    fill(jobs, "c d", priority=1)
    fill(jobs, "e", priority=-1)
    fill(jobs, "f")
    assert line(jobs) == "c d a b f e"
    assert [work.take().id for _ in range(6)] == ["c", "d", "a", "b", "f", "e"]
    assert work.take() is None


def test_the_running_ones_are_first_in_line_and_what_waits_can_be_cut_short(jobs, work):
    fill(jobs, "a b c d")
    work.take("c")
    jobs.pause("a")
    assert line(jobs) == "c a b d"
    assert [row.id for row in jobs.line(2)] == ["c", "a", "b"]
    work.finish("c")
    assert line(jobs) == "a b d"


def test_front_is_before_all_that_wait_whatever_their_priority(jobs, work):
    fill(jobs, "a b")
    fill(jobs, "c", priority=5)
    work.take("c")
    fill(jobs, "d", front=True)
    assert line(jobs) == "c d a b"
    fill(jobs, "e", priority=5)
    jobs.to_front("b")
    assert line(jobs) == "c b e d a"
    jobs.to_front("b")
    assert line(jobs) == "c b e d a"
    jobs.add(job(), job_id="f", front=True, priority=-5)
    assert line(jobs) == "c f b e d a"


def test_a_job_is_moved_before_another_and_to_the_end(jobs, work):
    fill(jobs, "a b c d")
    jobs.move("d", "b")
    assert line(jobs) == "a d b c"
    jobs.move("a", None)
    assert line(jobs) == "d b c a"
    jobs.move("b", "b")
    assert line(jobs) == "d b c a"
    fill(jobs, "low", priority=-2)
    fill(jobs, "high", priority=2)
    jobs.move("b", "high")
    jobs.move("d", None)
    assert line(jobs) == "b high c a low d"
    assert [jobs.get(name).priority for name in "bd"] == [2, -2]  # or they would not stand there
    assert [work.take().id for _ in range(6)] == ["b", "high", "c", "a", "low", "d"]


def test_a_single_job_can_be_moved_anywhere(jobs):
    fill(jobs, "a")
    jobs.move("a", None)
    jobs.to_front("a")
    assert line(jobs) == "a"


def test_moving_never_runs_out_of_places(jobs, work):
    fill(jobs, "a b c d e")
    work.take("c")
    for _ in range(150):  # each halves the gap; a number has 53 places
        jobs.move("e", "b")
        jobs.move("d", "e")
        jobs.move("e", "b")
        jobs.move("b", "e")
        assert line(jobs) == "c a d b e"
    work.release("c")
    assert line(jobs) == "c a d b e"


def test_nobody_is_put_where_a_running_job_stands(jobs, database, work):
    fill(jobs, "a b c d")
    work.take("b")
    jobs.move("d", "c")
    positions = [row["position"] for row in database.query("SELECT position FROM jobs ORDER BY id")]
    assert positions[0] < positions[1] < positions[3] < positions[2]
    jobs.pause("b")
    work.finish_paused("b")
    assert line(jobs) == "a b d c"


def test_a_priority_puts_a_job_behind_its_equals(jobs):
    fill(jobs, "a b c")
    jobs.set_priority("c", 2)
    jobs.set_priority("a", 2)
    assert line(jobs) == "c a b"
    jobs.set_priority("c", -1)
    assert line(jobs) == "a b c"
    for wrong in (1.5, "high", None, True, MAX_PRIORITY + 1):
        with pytest.raises(RequestError, match=r"priority is .*give a whole number"):
            jobs.set_priority("a", wrong)
        with pytest.raises(RequestError, match=r"priority is .*give a whole number"):
            jobs.add(job(), priority=wrong)
    assert line(jobs) == "a b c"


def test_a_job_is_not_moved_before_one_that_does_not_wait(jobs, work):
    fill(jobs, "a b c")
    work.take("a")
    with pytest.raises(RequestError, match="the job a is running"):
        jobs.move("c", "a")
    with pytest.raises(RequestError, match="no job has the id 'nobody'"):
        jobs.move("c", "nobody")
    assert line(jobs) == "a b c"


def test_closed_jobs_are_read_from_the_last_backwards_page_by_page(jobs):
    names = [f"{number:02}" for number in range(25)]
    fill(jobs, " ".join(names))
    for name in names[:10]:
        bring(jobs, name, DONE if name != "03" else FAILED)
    jobs.cancel_all()  # all at the same moment
    pages, last = [], None
    for _ in range(7):
        page = jobs.recent(4, last)
        pages.append([row.id for row in page])
        last = page[-1]
    assert jobs.recent(4, last) == []
    assert [len(page) for page in pages] == [4, 4, 4, 4, 4, 4, 1]
    assert [job_id for page in pages for job_id in page] == names[:9:-1] + names[9::-1]
    assert jobs.recent(0) == []
