"""Requests made of the server's own description, by schemathesis: nothing undocumented comes back."""

import os
import subprocess
import sys

EXAMPLES = int(os.environ.get("MEA_CLIENTS_EXAMPLES", "15"))
PHASES = os.environ.get("MEA_CLIENTS_PHASES", "examples,fuzzing")  # "coverage" takes a minute more
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_answers_are_as_described(server, tmp_path):
    command = [sys.executable, "-m", "schemathesis.cli", "--no-color", "run", f"{server.url}/openapi.json", "--checks", CHECKS, "--phases", PHASES,
               "--max-examples", str(EXAMPLES), "--seed", "20261130", "--generation-database", "none", "--no-shrink", "--request-timeout", "60",
               "--suppress-health-check", "all", "--max-failures", "5"]
    outcome = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert outcome.returncode == 0, outcome.stdout[-6000:] + outcome.stderr[-2000:]


def test_every_answer_of_an_operation_is_described(server):
    description = server.ask("GET", "/openapi.json").json()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
        answers = description["paths"][path]["post"]["responses"]
        assert {"200", "400", "404", "408", "413", "429", "500", "503"} <= set(answers), path
        assert "text/event-stream" in answers["200"]["content"]
