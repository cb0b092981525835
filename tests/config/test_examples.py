"""What the examples offer in comments can be used, and every validator can be called."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.base import Model
from config.load import load
from config.model import Config
from tests.support.repository import ROOT

DEPLOY = ROOT / "deploy"
EXAMPLES = sorted(path.name for path in DEPLOY.glob("*.example.yaml"))
ENVIRON = dict.fromkeys(
    (
        *("CAMERA_PASSWORD", "S3_ACCESS_KEY_ID", "PG_PASSWORD", "STRIPE_WEBHOOK_SECRET"),
        *("S3_SECRET_ACCESS_KEY", "SMTP_PASSWORD"),
    ),
    "x",
)
COMMENT = re.compile(r"(?m)^# ([a-z_]+:.*\n(?:#   .*\n)*)")


def offered(name: str) -> list[str]:
    """Return the settings of an example that stand in comments, as they would be written."""
    text = (DEPLOY / name).read_text()
    return [re.sub(r"(?m)^# ", "", found) for found in COMMENT.findall(text)]


def used(name: str, settings: list[str], folder: Path) -> Config:
    """Load the examples with settings in place of those of the same name."""
    for path in DEPLOY.glob("*.example.*"):
        shutil.copy(path, folder)
    (folder / "secrets").mkdir()
    for secret in ("s3", "stripe", "mail"):
        (folder / "secrets" / secret).write_text("x")
    (folder / "credentials.yaml").write_text('"*": {user: viewer, password: x}\n')
    for path in (folder / "credentials.yaml", *folder.glob("secrets/*")):
        path.chmod(0o600)
    text = (folder / name).read_text()
    for setting in settings:
        key = setting.partition(":")[0]
        text = re.sub(rf"(?m)^{key}:.*\n(?:[ #].*\n)*", "", text)
        text += setting
    (folder / name).write_text(text)
    return load(folder / "kuager.example.yaml", ENVIRON)


CASES = [(name, [setting]) for name in EXAMPLES for setting in offered(name)]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_setting_in_a_comment_can_be_used(name: str, settings: list[str], tmp_path: Path) -> None:
    assert used(name, settings, tmp_path).election.id


@pytest.mark.parametrize("name", EXAMPLES)
def test_all_settings_in_comments_can_be_used_together(name: str, tmp_path: Path) -> None:
    assert used(name, offered(name), tmp_path).election.id


def test_the_comments_are_seen() -> None:
    keys = {setting.partition(":")[0] for _, (setting,) in CASES}
    assert {"spool_mount", "archives", "database", "credentials", "copies"} <= keys


def validators(schema: Any) -> Iterator[Any]:
    """Yield whatever pydantic calls for a model."""
    if isinstance(schema, dict):
        if "function" in schema:
            said = schema["function"]
            yield said["function"] if isinstance(said, dict) else said
        for part in schema.values():
            yield from validators(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from validators(part)


def models(model: type[Model]) -> Iterator[type[Model]]:
    for one in model.__subclasses__():
        yield one
        yield from models(one)


@pytest.mark.parametrize("model", sorted(models(Model), key=str))
def test_every_validator_can_be_called(model: type[Model]) -> None:
    for function in validators(model.__pydantic_core_schema__):
        assert callable(function), f"{function!r} is not what checks a setting"
