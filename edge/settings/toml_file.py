"""Reads settings from TOML and the environment, and reports every error at once with its line."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge.errors import ConfigError, UnreadableConfigError
from edge.settings.defaults import DEFAULT_CONFIG
from edge.settings.schema import Section, Settings
from edge.text_file import NotTextError, read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # JetPack 6 has Python 3.10

# A name may also end like this (auth_token). Many recorders use user=…_password=…_channel=… as one path segment.
_SECRET = re.compile(
    r"(?i)(user|username|usr|loginuse|pass?|passw|passwd|password|passphrase|pwd?|token|secret|auth|key)="
    r"[^&/\s]*?(?=_password=|_channel=|[&/\s]|$)"
)
# Sentences for the user in place of pydantic's.
_WANTED = {
    "bool_type": "must be true or false",
    "float_type": "must be a number, without quotes",
    "int_type": "must be a whole number, without quotes",
    "string_type": "must be text in quotes",
    "model_type": "must be a section, which is a line of its own in brackets with its keys below it",
}
ENVIRONMENT_PREFIX = "EDGE_CLASSIFIER_"


def load_settings(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a file, overridden by `EDGE_CLASSIFIER_<SECTION>_<KEY>`.

    Args:
        path: the file; None for the installed one, or for the built-in defaults if there is none.
        environment: the variables.

    Raises:
        UnreadableConfigError: this user may not read the file.
        ConfigError: the file cannot be read or has errors; the message has one line for each.
    """
    text = _read(path)
    name = str(path or DEFAULT_CONFIG)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # the latter where brackets are nested by the hundred
        raise ConfigError(f"{name} is not TOML: {error}. Fix that line and try again.") from error
    origin = _override(document, environment)
    try:
        # As JSON, because strict validation then accepts an array as a tuple and a string as a path.
        return Settings.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        lines = [_sentence(detail, text, origin) for detail in error.errors(include_url=False)]
        count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
        raise ConfigError(f"{name} has {count}:\n" + "\n".join(f"  {line}" for line in lines)) from error


def _read(path: Path | None) -> str:
    chosen = path or DEFAULT_CONFIG
    try:
        return read_text(chosen)
    except FileNotFoundError as error:
        if path is None:
            return ""
        raise ConfigError(f"There is no config file {chosen}; name another with --config.") from error
    except PermissionError as error:
        raise UnreadableConfigError(
            f"{chosen} may not be read by this user; run with sudo or join the group edge-classifier."
        ) from error
    except NotTextError as error:
        raise ConfigError(f"{chosen} {error}.") from error
    except OSError as error:
        raise ConfigError(f"{chosen} cannot be read: {error.strerror}.") from error


def _sections() -> dict[str, type[Section]]:
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Put the environment's values into the document; returns which variable set which key."""
    origin: dict[tuple[str, str], str] = {}
    for variable in sorted(environment):
        prefix, _, name = variable.partition(ENVIRONMENT_PREFIX)
        section, _, key = name.lower().partition("_")
        kind = _sections().get(section)
        if prefix or kind is None or not key:
            continue  # not a setting
        table = document.setdefault(section, {})
        if isinstance(table, dict):
            text = environment[variable].encode(errors="backslashreplace").decode()  # a variable may not be UTF-8
            table[key] = _from_text(kind, key, text)
            origin[section, key] = variable
    return origin


def _from_text(kind: type[Section], key: str, text: str) -> object:
    """The value of a variable: a TOML value where the key is not text, else the text."""
    field = kind.model_fields.get(key)
    if field is None or field.annotation in (str, Path):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _sentence(detail: Any, text: str, origin: Mapping[tuple[str, str], str]) -> str:
    path = [str(part) for part in detail["loc"]]
    section, key = (*path, "", "")[:2]
    where = ".".join(path[:2]) or "the file"
    if variable := origin.get((section, key)):
        place = f" (from {variable})"
    else:
        line = _line_of(text, section, key)
        place = f" (line {line})" if line else ""
    message = _WANTED.get(detail["type"], detail["msg"])
    if detail["type"] == "extra_forbidden":
        known: Iterable[str] = _sections()
        if key and section in _sections():
            known = _sections()[section].model_fields
        close = difflib.get_close_matches(path[-1], known, n=1)
        message = "is not a setting" + (f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}")
    return f"{where}{place}: {message.removeprefix('Value error, ')}"


def _line_of(text: str, section: str, key: str) -> int | None:
    """The line on which a key of a section (or the section itself) is written, counted from 1."""
    table = ""
    found = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            table = header[1]
            found = number if table == section and found is None else found
        name = re.escape(key or section)
        if re.match(rf"\s*{name}\s*=", line) and table in (section, ""):
            return number
    return found


def to_toml(settings: Settings) -> str:
    """The settings in effect as TOML, which `load_settings` can read; the secrets in a camera's URL are masked."""
    lines: list[str] = []
    for name, section in masked(settings).items():
        # JSON's texts, numbers, booleans and arrays are also TOML's.
        keys = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in section.items())
        lines += [f"[{name}]", *keys, ""]
    return "\n".join(lines)


def masked(settings: Settings) -> dict[str, dict[str, Any]]:
    """The sections as JSON types; the secrets in a camera's URL are masked."""
    document = settings.model_dump(mode="json")
    document["camera"]["source"] = mask(settings.camera.source)
    return document


def mask(text: str) -> str:
    """A URL with its user and password masked, for output and logs. If in doubt, more is masked.

    A password may contain an `@`, and some cameras expect it in the path or the query.
    """
    text = re.sub(r"(\w+://)\S*@", r"\1***@", text)
    return _SECRET.sub(r"\1=***", text)
