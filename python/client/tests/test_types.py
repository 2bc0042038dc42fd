"""What type checkers see: the code of the introduction and of the READMEs passes `mypy --strict`."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def check(folder, code):
    path = folder / "code.py"
    path.write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "cache"), str(path)]
    # Not in a folder with settings of ours: users have none.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return done.stdout


def python_of(readme):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    return code


def test_the_code_of_the_readme_is_typed(tmp_path):
    code = python_of("README.md")
    # What `--strict` wants of any function.
    assert "Success" in check(tmp_path, code.replace("async def main():", "async def main() -> None:"))


def test_the_code_of_the_clients_readme_is_typed(tmp_path):
    lines = python_of("python/client/README.md").splitlines()
    imports = [line for line in lines if line.startswith("from")]
    body = "\n".join(line for line in lines if not line.startswith("from"))
    code = "\n".join(
        [
            *imports,
            "from modelkit import AnyEvent",
            "def load_model(event: AnyEvent) -> None:",
            "    print(event.model_name, event.version.upper(), event.topic)",
            "async def main() -> None:",
            textwrap.indent(body, "    "),
        ]
    )
    assert "Success" in check(tmp_path, code)


def test_the_code_of_modelkits_readme_is_typed(tmp_path):
    assert "Success" in check(tmp_path, python_of("python/modelkit/README.md"))


@pytest.mark.parametrize("twin", ["", "Sync"])
def test_a_model_is_what_a_subscription_gives(tmp_path, twin):
    loop = "async for" if not twin else "for"
    code = f"""
from modelkit import ModelReadyEvent
from synapse_client import {twin}SynapseClient

{"async " if not twin else ""}def main() -> None:
    client = {twin}SynapseClient()
    {loop} event in client.subscribe("t", model=ModelReadyEvent, replay_from="-90m", filters={{"a": 1}}):
        reveal_type(event)
        reveal_type(event.model_name)
        event.modle_name
    {loop} other in client.subscribe("t"):
        reveal_type(other.model_name)
        reveal_type(other.topic)
    client.subscribe("t", replay="-90m")
    client.publisher("t", batch_max="many")
"""
    told = check(tmp_path, code)
    for expected in [
        'Revealed type is "modelkit.events.ModelReadyEvent"',
        'Revealed type is "str"',
        '"ModelReadyEvent" has no attribute "modle_name"',
        'Revealed type is "Any"',
        'Revealed type is "str | None"',
        "No overload variant",
        'has incompatible type "str"; expected "int"',
        "Found 4 errors",
    ]:
        assert expected in told.replace("builtins.", ""), (expected, told)
