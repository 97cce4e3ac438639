"""Tests that the files in deploy/, which operators copy, agree with the code."""

import re
from pathlib import Path

from edge.settings.schema import Section, Settings
from edge.settings.toml_file import load_settings

CONFIG = Path(__file__).parents[2] / "deploy" / "config.toml"
MACHINE_DEPENDENT = {("device", "name"), ("model", "bundle"), ("fallback", "path")}


def every_key() -> set[tuple[str, str]]:
    keys = set()
    for section, field in Settings.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, Section)
        keys |= {(section, key) for key in kind.model_fields}
    return keys


def written_keys(*, commented: bool) -> set[tuple[str, str]]:
    keys, section = set(), ""
    for line in CONFIG.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif key := re.match(r"# (\w+) = " if commented else r"(\w+) = ", line):
            keys.add((section, key[1]))
    return keys


def test_the_config_an_operator_copies_means_the_defaults() -> None:
    assert load_settings(CONFIG, environment={}) == Settings()


def test_the_config_shows_every_key_once_and_comments_out_what_the_machine_decides() -> None:
    assert written_keys(commented=True) == MACHINE_DEPENDENT
    assert written_keys(commented=False) == every_key() - MACHINE_DEPENDENT


def test_the_commented_keys_are_valid_once_uncommented(tmp_path: Path) -> None:
    uncommented = re.sub(r"(?m)^# (name|bundle|path) = ", r"\1 = ", CONFIG.read_text(encoding="utf-8"))
    copy = tmp_path / "config.toml"
    copy.write_text(uncommented, encoding="utf-8")
    assert load_settings(copy, environment={}).device.name == "porch"
