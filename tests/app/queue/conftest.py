import pytest

from app.queue.queue import JobQueue
from app.queue.worker_side import WorkerQueue
from app.storage.database import Database


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path)


@pytest.fixture
def jobs(database):
    return JobQueue(database)


@pytest.fixture
def work(database):
    return WorkerQueue(database)
