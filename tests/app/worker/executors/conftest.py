import secrets

import pytest


@pytest.fixture(scope="package", autouse=True)
def token():
    """What Ray's processes know each other by; without one it writes one into the home folder."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        yield
