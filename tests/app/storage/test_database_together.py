"""Many processes and threads on one database: nobody is refused, nothing is seen half done.

The full minute: LAVIE_STRESS_SECONDS=60 python -m pytest tests/app/storage/test_database_together.py
"""

import multiprocessing
import os
import threading
import time
from pathlib import Path

from app.storage.database import Database
from app.storage.schema import migrations
from tests.app.databases import store, value

STRESS_SECONDS = float(os.environ.get("LAVIE_STRESS_SECONDS", "1.5"))
PROCESSES, THREADS = 4, 4
PATIENCE = 120  # seconds; only broken code needs them


def in_processes(work, *arguments) -> list:
    """What `work(queue, barrier, *arguments)` put into the queue in each of several processes."""
    context = multiprocessing.get_context("spawn")
    queue, barrier = context.Queue(), context.Barrier(PROCESSES)
    processes = [context.Process(target=work, args=(queue, barrier, *arguments)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    try:
        return [queue.get(timeout=PATIENCE + STRESS_SECONDS) for _ in processes]
    finally:
        for process in processes:
            process.join(PATIENCE)
            process.kill()


def _create(queue, barrier, folder: Path) -> None:
    barrier.wait(PATIENCE)
    try:
        database = Database(folder)
        store(database, str(os.getpid()), "here")
        queue.put("created")
    except Exception as error:
        queue.put(repr(error))


def test_processes_that_create_the_same_database_at_once(tmp_path):
    assert in_processes(_create, tmp_path / "data") == ["created"] * PROCESSES
    database = Database(tmp_path / "data")
    names = [row["name"] for row in database.query("SELECT name FROM _sqlite_migrations ORDER BY name")]
    assert names == [migration.name for migration in migrations._migrations]
    assert len(database.query("SELECT * FROM settings")) == PROCESSES


def _read_and_write(queue, barrier, folder: Path) -> None:
    database, done, errors = Database(folder), [], []
    barrier.wait(PATIENCE)
    end = time.monotonic() + STRESS_SECONDS

    def work() -> None:
        count = 0
        try:
            while time.monotonic() < end:
                with database.write():
                    store(database, "count", str(int(value(database, "count")) + 1))
                    store(database, "again", value(database, "count"))
                count += 1
                (row,) = database.query("SELECT count(DISTINCT value) AS values_seen FROM settings")
                assert row["values_seen"] == 1, "a transaction was seen half done"
                if count % 50 == 0:
                    database.close()  # as pages that come and go
        except BaseException as error:
            errors.append(repr(error))
        finally:
            done.append(count)
            database.close()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put((sum(done), len(done), errors))


def test_processes_and_threads_read_and_write_together(tmp_path):
    database = Database(tmp_path)
    store(database, "count", "0")
    store(database, "again", "0")
    database.close()
    outcomes = in_processes(_read_and_write, tmp_path)
    assert [errors for _, _, errors in outcomes] == [[]] * PROCESSES
    assert sum(threads for _, threads, _ in outcomes) == PROCESSES * THREADS
    database = Database(tmp_path)
    assert int(value(database, "count")) == sum(count for count, _, _ in outcomes) > PROCESSES * THREADS
    assert database.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
