import pytest

from app.database import Database
from app.jobs import Jobs


@pytest.fixture
def database(tmp_path):
    return Database(tmp_path)


@pytest.fixture
def jobs(database):
    return Jobs(database)
