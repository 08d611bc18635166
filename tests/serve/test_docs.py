"""Every `curl` line and every Python program of docs/serving.md works as it stands there."""

import re
import shutil
import subprocess
import sys

import pytest

from program import ROOT, Server

TEXT = (ROOT / "docs" / "serving.md").read_text()
ADDRESS = "http://127.0.0.1:8080"
ADAPTER = ROOT / "crates" / "built-in" / "assets" / "instructions-adapter"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def name(block):
    return next(line for line in block.splitlines() if "curl " in line or "OpenAI(" in line)[:60]


COMMANDS = [block for block in blocks("sh") if re.search(r"^\s*curl ", block, re.MULTILINE)]
PROGRAMS = [block for block in blocks("python") if "OpenAI(" in block]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with the keys of the docs, and a folder from which an adapter may be loaded."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text("a-key-in-plain-text\nadmin my-admin-key\n")
    shutil.copytree(ADAPTER, folder / "adapters" / "polite")
    server = Server("--api-key-file", str(folder / "keys"), "--adapter-root", str(folder / "adapters"))
    yield server
    server.stop()


@pytest.mark.parametrize("block", COMMANDS, ids=name)
def test_a_command_succeeds(request, block):
    server = request.getfixturevalue("guarded" if "Authorization" in block else "server")
    # Servers are started by the fixtures.
    lines = [line for line in block.splitlines() if not line.startswith(("llama-adapter ", "cargo "))]
    script = "\n".join(lines).replace(ADDRESS, server.url)
    strict = 'set -eu\ncurl() { command curl --fail-with-body --silent --show-error "$@"; echo; }\n'
    result = subprocess.run(["bash", "-c", strict + script], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, f"{script}\n{result.stdout}{result.stderr}"
    assert result.stdout.strip() and '"error"' not in result.stdout, result.stdout


@pytest.mark.parametrize("block", PROGRAMS, ids=name)
def test_a_program_succeeds(server, block):
    program = "from openai import OpenAI\n" + block.replace(ADDRESS, server.url)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


def test_the_docs_have_commands_and_programs():
    assert len(COMMANDS) >= 5 and PROGRAMS
