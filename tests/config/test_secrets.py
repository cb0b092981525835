"""Secrets: what is put in, what is shown, and that nothing slips out of a broken file."""

from __future__ import annotations

import pickle
import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import load
from config.model import Camera
from config.problems import ConfigError, Wrong
from config.secrets import SecretUrl, expand, redact, with_login
from tests.support.repository import ROOT

DEPLOY = ROOT / "deploy"
SECRET = "Zx9Qw7Vb5Tn3"  # no part of it is in any text of ours

text_in_a_password = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}-$$-${A}", "a/b-$-a/b"),
        ("$A $ $5 pa$word", "$A $ $5 pa$word"),
        ("$${A}", "${A}"),
        ("rtsp://${A}:${B}@h/${A}", "rtsp://a%2Fb:%40@h/a/b"),
        ("rtsp://h/x?u=${A}@", "rtsp://h/x?u=a/b@"),
        ("${URL}", "rtsp://u:p@h"),
    ],
)
def test_variables(text: str, value: str) -> None:
    assert expand(text, {"A": "a/b", "B": "@", "URL": "rtsp://u:p@h"}) == value


@pytest.mark.parametrize("text", ["${NO}", "${", "${}", "${1}", "${A", "x${BAD}", "${NUL}"])
def test_variables_wrong(text: str) -> None:
    with pytest.raises(Wrong):
        expand(text, {"A": "a", "BAD": "\udcff", "NUL": "a\x01"})


@given(text_in_a_password, text_in_a_password)
def test_any_login_can_be_given(user: str, password: str) -> None:
    from urllib.parse import unquote, urlsplit

    by_file = with_login("rtsp://10.0.0.1:554/a", user, password)
    by_variable = expand("rtsp://${U}:${P}@10.0.0.1:554/a", {"U": user, "P": password})
    assert by_file == by_variable
    url = SecretUrl.parse(by_file)
    parts = urlsplit(url.reveal())
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert (parts.hostname, parts.port, parts.path) == ("10.0.0.1", 554, "/a")
    assert str(url) == "rtsp://***@10.0.0.1:554/a"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"rtsp://u:{SECRET}@h:554/path", "rtsp://***@h:554/path"),
        (f"rtsp://{SECRET}@[::1]/path", "rtsp://***@[::1]/path"),
        (f"rtsp://u:{SECRET}@{SECRET}@h/path", "rtsp://***@h/path"),
        (f"rtsp://h/user=admin&password={SECRET}", "rtsp://h/user=***"),
        (f"rtsp://h/cam?auth={SECRET}", "rtsp://h/cam?***"),
        ("rtsp://h", "rtsp://h"),
    ],
)
def test_an_address_does_not_show_its_secret(url: str, shown: str) -> None:
    secret = SecretUrl.parse(url)
    camera = Camera(id="c", url=secret)
    assert str(secret) == shown == redact(url)
    for text in (repr(secret), f"{secret}", repr(camera), str(camera), camera.model_dump_json()):
        assert shown in text
        assert SECRET not in text
    again = pickle.loads(pickle.dumps(secret))
    assert again == secret
    assert again.reveal() == secret.reveal()


@given(st.text() | st.text("rtsp:/@%[]#?=;u1 ").map(lambda t: f"rtsp://{t}"))
def test_any_text_is_an_address_or_wrong(text: str) -> None:
    try:
        url = SecretUrl.parse(text)
    except Wrong as wrong:
        assert wrong.fix
        return
    assert SecretUrl.parse(url.reveal()) == url
    assert re.fullmatch(r"[!-~\u00a1-\U0010ffff]+", url.reveal())
    assert not re.search(r"[^/]:[^/]*@", str(url))


# -- broken files ----------------------------------------------------------------------------


def _example() -> dict[str, bytes]:
    kuager = (DEPLOY / "kuager.example.yaml").read_text()
    kuager = kuager.replace("# credentials:", "credentials:")
    key = f"access_key_id: a, secret_access_key: {SECRET}"
    bucket = f"archives: [{{url: s3://abc/x, {key}}}]"
    kuager = kuager.replace("archives: [./archive]\n", f"{bucket}\n")
    kuager += f"database: postgresql://u:{SECRET}@h/d\n"
    names = ("stations.example.yaml", "stations.example.csv")
    files = {
        name: (DEPLOY / name).read_text().replace("${CAMERA_PASSWORD}", SECRET) for name in names
    }
    files["kuager.yaml"] = kuager
    files["credentials.yaml"] = (
        f'"*": {{user: viewer, password: {SECRET}}}\n0842:\n  user: admin\n  password: "{SECRET}"\n'
    )
    return {name: text.encode() for name, text in files.items()}


EXAMPLE = _example()
PIECES = [
    b"\n",
    b": ",
    b"- ",
    b",",
    b";",
    b'"',
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"*",
    b"&",
    b"!",
    b"#",
]
PIECES += [
    b"${",
    b"$",
    b"@",
    b"/",
    b"\xff",
    b"\0",
    b"\t",
    b"\xd0",
    b"%",
    b"|",
    b"  ",
    b"---\n",
    b"?",
]


def _mutate(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 1, 2, 5, 20, 100)))
        place = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data = data[:at] + data[to:]
            case 1 | 2:
                data = data[:at] + rng.choice(PIECES) + data[at:]
            case 3:
                data = data[:at] + rng.choice(PIECES) + data[to:]
            case 4:
                data = data[:place] + data[at:to] + data[place:]
            case 5:
                data = data[:at] + rng.randbytes(rng.choice((1, 3))) + data[at:]
    return data


def _load_and_tell(files: dict[str, bytes], csv: bool) -> str:
    with tempfile.TemporaryDirectory() as name:
        for file, data in files.items():
            (Path(name) / file).write_bytes(data)
        if csv:
            path = Path(name) / "kuager.yaml"
            path.write_bytes(
                path.read_bytes().replace(b"stations.example.y", b"stations.example.csv #y")
            )
        try:
            config = load(Path(name) / "kuager.yaml", {})
        except ConfigError as error:
            assert error.problems
            assert all(p.what and p.fix for p in error.problems)
            return str(error) + repr(error.problems)
        # texts for people and paths are shown as they are, so what slipped into them is not ours
        cameras = [stream for s in config.stations for c in s.cameras for stream in c.streams]
        urls = [repr(stream.url) for stream in cameras]
        shown = [config.database_shown, repr(config.archives), *urls, *map(repr, config.warnings)]
        return "loaded " + "".join(shown)


def _leaks(text: str) -> bool:
    """Tell whether five characters of the secret in a row are in a text."""
    # the name in ${NAME} is the one thing that is quoted, even where it cannot be one
    text = re.sub(r"the environment variable \w+ |; set \w+", "", text)
    return any(SECRET[n : n + 5] in text for n in range(len(SECRET) - 4))


@pytest.mark.parametrize("csv", [False, True])
def test_the_example_with_secrets_shows_none(csv: bool) -> None:
    told = _load_and_tell(EXAMPLE, csv)
    assert told.startswith("loaded ")
    assert not _leaks(told)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("credentials.yaml", "password: ", "password:"),
        ("credentials.yaml", "password: ", "password, "),
        ("credentials.yaml", "password: ", "password: *"),
        ("credentials.yaml", "password: ", "password: {"),
        ("credentials.yaml", "password: ", "password: x, "),
        ("credentials.yaml", "password: ", "password_file: "),
        ("kuager.yaml", "secret_access_key: ", "secret_access_key:"),
        ("kuager.yaml", "secret_access_key: ", "secret_access_key_file: "),
        ("kuager.yaml", "credentials: ", f"credentials: {SECRET}"),
        ("kuager.yaml", "postgresql://u", "postgres://u"),
        ("kuager.yaml", "@h/d", "#@h/d"),
        ("stations.example.yaml", "viewer:", "viewer:1#"),
        ("stations.example.yaml", "viewer:", "viewer:1/"),
        ("stations.example.csv", "Ballot box,", "Ballot, box,"),
        ("stations.example.csv", "Hall,,,,", "Hall,"),
    ],
)
def test_slips_of_the_pen_show_no_secret(name: str, old: str, new: str) -> None:
    data = EXAMPLE[name].replace(old.encode(), new.encode())
    assert data != EXAMPLE[name]
    told = _load_and_tell(EXAMPLE | {name: data}, csv=name.endswith(".csv"))
    assert not told.startswith("loaded ")
    assert not _leaks(told)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.sampled_from(sorted(EXAMPLE)), st.booleans(), st.integers(0, 2**32))
def test_no_input_makes_a_traceback_or_shows_a_secret(name: str, csv: bool, seed: int) -> None:
    files = EXAMPLE | {name: _mutate(EXAMPLE[name], random.Random(seed))}
    assert not _leaks(_load_and_tell(files, csv))


@settings(max_examples=100)
@given(st.sampled_from(sorted(EXAMPLE)), st.booleans(), st.binary() | st.text().map(str.encode))
def test_no_bytes_make_a_traceback(name: str, csv: bool, data: bytes) -> None:
    _load_and_tell(EXAMPLE | {name: data}, csv)
