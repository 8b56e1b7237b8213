import pytest

from lavie import Cascade
from tests.cascades import with_extension


@pytest.fixture(scope="session")
def tiny_bundle(one_level_bundle):
    return one_level_bundle


@pytest.fixture(scope="session")
def tiny_cascade(one_level_cascade):
    return one_level_cascade


@pytest.fixture(scope="session")
def extending(tiny_bundle, tmp_path_factory):
    """A cascade that has a network for `conditioned`."""
    folder = with_extension(tiny_bundle, tmp_path_factory.mktemp("bundles") / "extending")
    return Cascade.from_bundle(folder, device="cpu")
