"""Three servers for all tests, and routers in front of them."""

import fleet
import openai
import pytest
import serving


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    return serving.make_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="session")
def workers(model_dir):
    with fleet.workers(model_dir) as started:
        yield started


@pytest.fixture(scope="session")
def smg(workers):
    with fleet.smg(workers, "--reasoning-parser", "qwen3", "--tool-call-parser", "qwen") as router:
        router.wait_until(lambda: router.routes_to(worker.grpc_address for worker in workers), "all workers found")
        yield router


@pytest.fixture(scope="session")
def client(smg):
    with openai.OpenAI(base_url=smg.url + "/v1", api_key="none", max_retries=0, timeout=60) as opened:
        yield opened
