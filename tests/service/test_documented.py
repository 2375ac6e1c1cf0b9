"""The examples of docs/service.md work."""

import json
import shutil
import subprocess
from typing import Any

import pytest
from helpers import BLOCK, ROOT


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_of_the_page(server: Any) -> None:
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    [block] = [block for block in BLOCK.finditer(page) if block["language"] == "bash"]
    commands = block["code"].splitlines()
    assert len(commands) == 10
    for command in commands:
        assert command.startswith("curl ")
        line = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        done = subprocess.run(["bash", "-c", f"{line} --fail-with-body -sS"], capture_output=True, text=True)
        assert done.returncode == 0, command + done.stdout + done.stderr
        assert done.stdout
    refused = server.get("/names?temperature=-1")
    assert json.dumps(refused.json()) in page
