"""What a person reads about the configuration is what the model says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from places import ROOT
from pydantic import BaseModel

from pipeline.config.load import load_config
from pipeline.config.reference import REFERENCES, reference_page, reference_yaml
from pipeline.config.schema import Config, section_in


def sections(section: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """All settings classes below one, by name."""
    found = {section.__name__: section}
    for field in section.model_fields.values():
        inner = section_in(field.annotation)
        if inner is not None:
            found |= sections(inner)
    return found


FIELDS = [
    pytest.param(field, id=f"{name}.{key}")
    for name, section in sections(Config).items()
    for key, field in section.model_fields.items()
]


@pytest.mark.parametrize("path", REFERENCES, ids=str)
def test_what_is_made_from_the_model_is_as_it_was_made(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == REFERENCES[path](), (
        f"{path} is not what the model in pipeline/config/schema.py says: run 'make reference' and commit the result"
    )


def test_the_file_loads_as_the_defaults_and_names_every_key(tmp_path: Path) -> None:
    path = tmp_path / "oddwatch.yaml"
    path.write_text(reference_yaml())
    assert load_config(path, {}) == Config()
    assert keys(yaml.safe_load(path.read_text())) == keys(Config().model_dump(mode="json"))
    assert max(map(len, path.read_text().splitlines())) <= 120


def keys(value: object, path: str = "") -> set[str]:
    if not isinstance(value, dict):
        return {path}
    return {path} | {k for name, inner in value.items() for k in keys(inner, f"{path}.{name}")}


@pytest.mark.parametrize("field", FIELDS)
def test_every_key_has_a_sentence_that_names_its_choices(field) -> None:
    if section_in(field.annotation) is not None and not field.description:
        assert section_in(field.annotation).__doc__
        return
    assert field.description
    assert field.description.endswith((".", ")"))
    if get_origin(field.annotation) is Literal:
        assert [c for c in get_args(field.annotation) if c not in field.description] == []


def test_the_page_says_what_is_allowed() -> None:
    page = reference_page()
    for line in (
        "| `height` | integer from 16 to 2160 or `null` | `null` | Analysis height",
        "| `transport` | `tcp`, `udp` | `tcp` | How RTSP",
        "| `max_length_s` | number above 0 | `300.0` |",
        "| `raise_at` | number above 0, below 1 | `0.6` |",
        "| `weights` | names, each with a number at least 0 | `{}` |",
        "| `source` | text | required |",
        r"| `device` | text like `^(auto\|cpu\|cuda(:\d+)?)$` | `auto` |",
        "## cameras.NAME",
    ):
        assert line in page
