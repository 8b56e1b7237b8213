"""Each visitor sees and changes what is theirs; what is shared is seen by all and changed by its maker alone."""

import zipfile

import pytest
from starlette.requests import HTTPConnection

from app.config import Limits, Space, StudioConfig
from app.gallery import Query
from app.gallery.exchange import export_zip
from app.gallery.search import count_values, find_clips, save_search
from app.gallery.trash import move_to_trash, purge
from app.recipes.job_row import CANCELLED, QUEUED
from app.sharing import ANONYMOUS, Visitor, as_visitor, in_public_gallery, limit_admission, list_shared, share
from app.ui.create.handlers import act_on_queue
from app.ui.public.visitors import COOKIE, Visitors
from extensions.long_video.plan import Segment, SegmentPlan
from lavie.errors import RequestError
from lavie.request import Request
from tests.app.studios import ended
from tests.fakes import FakeCascade

ADA, BOB = Visitor("a" * 64), Visitor("b" * 64)


@pytest.fixture
def studio(make_studio):
    return make_studio(FakeCascade(), space=Space(), model="nano")


def made(studio, who, prompt="a red star", seed=7):
    with as_visitor(who):
        job = studio.submit(Request(prompt, seed=seed))
    ended(studio, job)
    return job


def found(studio, **query):
    return [clip.id for clip in find_clips(studio.gallery, Query(**query)).clips]


def test_each_sees_their_own_clips_and_jobs(studio):
    clips = {who: made(studio, who, f"a star of {who.name[0]}", seed) for seed, who in enumerate((ADA, BOB))}
    for who, other in ((ADA, BOB), (BOB, ADA)):
        with as_visitor(who):
            for query in ({}, {"text": "star"}, {"stacked": True}, {"text": "star", "stacked": True}, {"seed": None}):
                assert found(studio, **query) == [clips[who]], query
            assert find_clips(studio.gallery, Query()).total == 1
            assert studio.gallery.get(clips[other]) is None and studio.job(clips[other]) is None
            assert studio.gallery.newest().id == clips[who]
            assert count_values(studio.gallery, "model") == {"nano": 1}
            assert [row.id for row in studio.queue.recent(10)] == [clips[who]]
            assert sum(studio.queue.counts().values()) == 1
            with pytest.raises(RequestError, match="no clip"):
                studio.remix(clips[other])
    assert sorted(found(studio)) == sorted(clips.values())  # nobody in particular sees all


def test_nobody_touches_what_is_anothers(studio):
    studio.queue.pause_queue()
    with as_visitor(ADA):
        job = studio.submit(Request("a red star"))
    with as_visitor(BOB):
        for change in (
            studio.queue.cancel,
            studio.queue.pause,
            studio.queue.duplicate,
            lambda job: studio.edit(job, None),
        ):
            with pytest.raises(RequestError, match="no job has the id"):
                change(job)
        assert studio.queue.cancel_all() == 0 and studio.queue.line() == []
        for what in ("resume_queue", "front", "up"):
            with pytest.raises(RequestError, match="many share one studio"):
                act_on_queue(studio, what, job)
    assert studio.job(job).state == QUEUED
    with as_visitor(ADA):
        assert studio.queue.cancel_all() == 1
    assert studio.job(job).state == CANCELLED


def test_the_wall_shows_what_was_shared_and_only_its_maker_changes_it(studio):
    clip = made(studio, ADA)
    with as_visitor(BOB), pytest.raises(RequestError, match="another visitor's"):
        share(studio.database, clip)
    with as_visitor(ADA):
        share(studio.database, clip)
        assert list_shared(studio.database) == {clip}
    with as_visitor(BOB):
        assert found(studio) == [] and list_shared(studio.database) == set()
        with in_public_gallery():
            assert found(studio) == [clip]
        assert studio.gallery.require(clip).id == clip
        for change in (lambda: studio.gallery.rate(clip, 5), lambda: move_to_trash(studio.gallery, clip)):
            with pytest.raises(RequestError, match="another visitor's"):
                change()
        again = studio.remix(clip)
    assert studio.gallery.get(clip).rating == 0
    ended(studio, again)
    with as_visitor(BOB):
        assert found(studio) == [again]
    with as_visitor(ADA):
        share(studio.database, clip, False)
        with in_public_gallery():
            assert found(studio) == []


def test_the_trash_of_one_is_not_emptied_by_another(studio):
    clips = {who: made(studio, who) for who in (ADA, BOB)}
    for who, clip in clips.items():
        with as_visitor(who):
            move_to_trash(studio.gallery, clip)
    # A purge of Ada's that was cut short: Bob's must bring it back, and not take it for what has no row.
    kept = studio.config.clips / f"{clips[ADA]}.mp4"
    away = studio.config.data / "trash" / clips[ADA]
    away.mkdir(parents=True)
    kept.rename(away / kept.name)
    with as_visitor(BOB):
        assert purge(studio.gallery) == [clips[BOB]]
    assert kept.is_file()
    with as_visitor(ADA):
        assert found(studio, trashed=True) == [clips[ADA]]


def test_a_download_holds_what_is_ones_own(studio, tmp_path):
    clips = {who: made(studio, who) for who in (ADA, BOB)}
    with as_visitor(BOB):
        done = export_zip(studio.gallery, tmp_path / "mine.zip")
    assert done.clips == (clips[BOB],)
    assert not any(clips[ADA] in name for name in zipfile.ZipFile(done.path).namelist())


def test_long_videos_are_ones_own_and_what_would_be_everybodys_is_not_kept(studio):
    with as_visitor(ADA):
        project = studio.long_videos.projects.create(SegmentPlan((Segment("a"),)), Request("a"), "nano")
    with as_visitor(BOB):
        assert studio.long_videos.projects.list() == []
        with pytest.raises(RequestError, match="no long video"):
            studio.long_videos.projects.delete(project)
        for keep in (lambda: studio.presets.save("mine", {}), lambda: save_search(studio.gallery, "mine", Query())):
            with pytest.raises(RequestError, match="many share"):
                keep()
    assert [one.id for one in studio.long_videos.projects.list()] == [project]


@pytest.mark.parametrize(
    ("limits", "said"), [(Limits(jobs=2), "2 jobs of yours"), (Limits(seconds=5), r"2 s of video, 4 s of yours")]
)
def test_limits_are_each_visitors_own(make_studio, limits, said):
    studio = make_studio(FakeCascade(), space=Space(), limits=limits)
    studio.queue.pause_queue()
    ada, bob = (Visitor(who.name, limit_admission(studio.config)) for who in (ADA, BOB))
    with as_visitor(ada):
        for _ in range(2):
            studio.submit(Request("a red star"))  # 16 frames at 8 a second
        with pytest.raises(RequestError, match=said):
            studio.submit(Request("a red star"))
        assert len(studio.queue.line()) == 2
    with as_visitor(bob):
        studio.submit(Request("a red star"))
    for _ in range(3):  # nobody in particular is not limited
        studio.submit(Request("a red star"))


def test_at_home_nothing_of_it_is_written(make_studio):
    studio = make_studio(FakeCascade())
    ended(studio, studio.submit(Request("a red star")))
    assert not StudioConfig().shared and ANONYMOUS.own == "TRUE"
    assert studio.database.query("SELECT * FROM owned") == []


def test_who_signed_in_is_the_same_on_every_machine_and_nobody_else(studio):
    def known(cookie="", **signed_in):
        headers = [(b"cookie", f"{COOKIE}={cookie}".encode())]
        session = {"oauth_info": {"userinfo": signed_in}} if signed_in else {}
        return Visitors(studio).of(HTTPConnection({"type": "http", "headers": headers, "session": session})).name

    ada = known("x" * 32, preferred_username="ada")
    assert ada == known("y" * 32, preferred_username="ada")
    others = {known("x" * 32), known("y" * 32), known("x" * 32, preferred_username="bob"), known(), known()}
    assert len(others | {ada}) == 6  # who is known by nothing is new each time
    assert known("x" * 32) == known("x" * 32)


def test_a_name_that_is_no_hash_never_comes_near_sql():
    with pytest.raises(ValueError, match="SHA-256"):
        Visitor("x' OR 1=1 --")
