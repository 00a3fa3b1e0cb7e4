import pytest

from tests.providers import Stub


@pytest.fixture(scope="module")
def server():
    stub = Stub()
    yield stub
    stub.close()


@pytest.fixture
def stub(server):
    server.seen.clear()
    server.script.clear()
    return server
