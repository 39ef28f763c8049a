"""Each key in ``[tool.durable]`` of pyproject.toml: as in durable.toml."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.config import load_project
from server.config_reader import ConfigError
from tests.server.test_config_keys import TABLE, Key, refusals


@pytest.mark.parametrize("key", TABLE, ids=lambda key: key.key)
def test_in_pyproject_a_key_is_the_same_with_tool_durable_before_it(
    tmp_path: Path, key: Key
) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(_for_pyproject(key.good))
    assert key.read(load_project(tmp_path)) == key.value
    file.write_text('[project]\nname = "another"')
    assert key.read(load_project(tmp_path)) == key.missing
    for text, said in refusals(key):
        file.write_text(_for_pyproject(text))
        with pytest.raises(ConfigError) as caught:
            load_project(tmp_path)
        line, _, what = said.partition(": ")
        expected = f"pyproject.toml:{int(line) + 1}: tool.durable.{what}"
        assert str(caught.value).startswith(expected), (text, str(caught.value))


def _for_pyproject(text: str) -> str:
    """The same file one line further down, below ``[tool.durable]``."""
    return "[tool.durable]\n" + re.sub(r"(?m)^(\[+)(?=[a-z])", r"\1tool.durable.", text)
