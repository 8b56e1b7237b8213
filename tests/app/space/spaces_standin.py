"""Stands in for the package `spaces`: lends a device, as a process of its own that gets and gives pickled values alone.

What a visitor's quota is asked for is kept in `asked`. More than the quota, and a process that ends, end as theirs do.
"""

import multiprocessing
import pickle

QUOTA_SECONDS = 300
asked: list[int] = []
quota = [QUOTA_SECONDS]  # a test may change it
_END = b""


class Refused(Exception):
    """As gradio's Error: with a message, and no string."""

    def __init__(self, message):
        super().__init__()
        self.message = message

    def __str__(self):
        return ""


def GPU(duration):
    """The decorator, of generator functions."""

    def decorate(function):
        def lent(*arguments):
            asked.append(duration(*arguments))
            if asked[-1] > quota[0]:
                raise Refused(f"You have exceeded your GPU quota ({asked[-1]}s requested vs. {quota[0]}s left)")
            yield from _elsewhere(function, arguments)

        return lent

    return decorate


def _elsewhere(function, arguments):
    context = multiprocessing.get_context("forkserver")  # as theirs, a fork; and of a process that has no threads yet
    context.set_forkserver_preload(["torch", "app.worker.executors.zerogpu", "tests.app.space.fakes"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_carry_out, args=[theirs, function, pickle.dumps(arguments)])
    process.start()
    theirs.close()
    try:
        while (sent := ours.recv_bytes()) != _END:
            yield pickle.loads(sent)
    except EOFError:
        raise Refused("GPU task aborted") from None
    finally:
        process.kill()
        process.join()
        ours.close()


def _carry_out(pipe, function, arguments):
    for value in function(*pickle.loads(arguments)):
        pipe.send_bytes(pickle.dumps(value))
    pipe.send_bytes(_END)
