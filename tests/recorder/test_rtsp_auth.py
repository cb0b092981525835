"""Answers to challenges: the examples of the standards, and what cameras make of them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.rtsp.auth import Authenticator, Challenge, Credentials, parse_challenges, strongest
from tests.support.rtsp_camera import digest_fields

MUFASA = Credentials("Mufasa", "Circle of Life")
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"


def answer(value: str, login: Credentials, cnonce: str, method: str, uri: str) -> dict[str, str]:
    (challenge,) = parse_challenges([value])
    maker = Authenticator(login, challenge, lambda: cnonce)
    return digest_fields(maker.authorization(method, uri))


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc_7616_3_9_1(algorithm: str, response: str) -> None:
    value = (
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
        f'nonce="{NONCE}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    found = answer(value, MUFASA, CNONCE, "GET", "/dir/index.html")
    assert found["response"] == response
    assert (found["nc"], found["qop"], found["algorithm"]) == ("00000001", "auth", algorithm)
    assert found["opaque"] == "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"


def test_rfc_7616_3_9_2_with_erratum_4897() -> None:
    value = (
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    cnonce = "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v"
    login = Credentials("Jäsøn Doe", "Secret, or not?")
    found = answer(value, login, cnonce, "GET", "/doe.json")
    assert found["username"] == "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"
    assert found["response"] == "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
    assert found["userhash"] == "true"


@pytest.mark.parametrize("more", ["", ', qop="", algorithm=""'])
def test_rfc_2617_without_qop_is_rfc_2069(more: str) -> None:
    value = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"' + more
    assert strongest(parse_challenges([value])) is not None
    found = answer(value, MUFASA, CNONCE, "GET", "/dir/index.html")
    secret = hashlib.md5(b"Mufasa:testrealm@host.com:Circle of Life").hexdigest()
    asked = hashlib.md5(b"GET:/dir/index.html").hexdigest()
    both = f"{secret}:dcd98b7102dd2f0e8b11d0f600bfb0c093:{asked}"
    assert found["response"] == hashlib.md5(both.encode()).hexdigest()
    assert {"qop", "nc", "cnonce", "algorithm"}.isdisjoint(found)


@pytest.mark.parametrize(("name", "hash_name"), [("MD5-sess", "md5"), ("SHA-256-sess", "sha256")])
def test_sess(name: str, hash_name: str) -> None:
    value = f'Digest realm="r", nonce="n", qop=auth, algorithm={name}'
    found = answer(value, MUFASA, "c", "DESCRIBE", "rtsp://h/")

    def digest(text: str) -> str:
        return hashlib.new(hash_name, text.encode()).hexdigest()

    secret = digest(f"{digest('Mufasa:r:Circle of Life')}:n:c")
    assert found["response"] == digest(f"{secret}:n:00000001:c:auth:{digest('DESCRIBE:rtsp://h/')}")


def test_the_count_goes_up_with_a_nonce() -> None:
    maker = Authenticator(MUFASA, Challenge("digest", {"nonce": "n", "qop": "auth"}))
    found = [digest_fields(maker.authorization("PLAY", "rtsp://h/")) for _ in range(2)]
    assert [f["nc"] for f in found] == ["00000001", "00000002"]
    assert found[0]["response"] != found[1]["response"]


def test_basic_as_in_rfc_7617() -> None:
    (challenge,) = parse_challenges(['Basic realm="WallyWorld"'])
    maker = Authenticator(Credentials("Aladdin", "open sesame"), challenge)
    assert maker.authorization("DESCRIBE", "x") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (['Digest realm="a, b" nonce="x=y" qop="auth,auth-int"'], ["Digest MD5"]),
        (
            ['Basic realm="r", Digest realm="r",nonce="n",algorithm=SHA-256'],
            ["Basic", "Digest SHA-256"],
        ),
        (["Basic"], ["Basic"]),
        (
            ['DIGEST REALM="r" , NONCE = "n", ALGORITHM="md5"', "Negotiate"],
            ["Digest MD5", "Negotiate"],
        ),
        (["", "junk, \xff", 'realm="without a scheme"'], []),
    ],
)
def test_challenges_as_cameras_write_them(values: list[str], names: list[str]) -> None:
    assert [challenge.name for challenge in parse_challenges(values)] == names


@pytest.mark.parametrize("word", ["a", "a" * 1_000_000, "a-" * 500_000])
def test_words_without_end_are_read_through_once(word: str) -> None:
    assert not parse_challenges([word])
    assert [c.name for c in parse_challenges([f"{word} Digest realm=r"])] == ["Digest MD5"]


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (["MD5", "SHA-256"], "SHA-256"),
        (["SHA-512-256", "SHA-256", "MD5"], "SHA-512-256"),
        (["basic", "MD5"], "MD5"),
        (["basic", "SHA-3"], "basic"),
        (["SHA-3"], None),
    ],
)
def test_the_strongest_that_both_know(offered: list[str], taken: str | None) -> None:
    values = [
        'Basic realm="r"' if name == "basic" else f'Digest nonce="n", algorithm={name}'
        for name in offered
    ]
    found = strongest(parse_challenges(values))
    assert (found and (found.parameters.get("algorithm") or found.scheme)) == taken


def test_auth_int_alone_and_no_nonce_are_not_known() -> None:
    assert (
        strongest(parse_challenges(['Digest nonce="n", qop="auth-int"', "Digest realm=r"])) is None
    )


TEXT = st.text(max_size=30)


@settings(deadline=None)
@given(values=st.lists(TEXT, max_size=4), user=TEXT, password=TEXT)
def test_any_challenge_is_answered_or_not_known(
    values: list[str], user: str, password: str
) -> None:
    found = strongest(parse_challenges([*values, f'Digest nonce="{"".join(values)}", qop=auth']))
    if found is not None:
        text = Authenticator(Credentials(user, password), found).authorization("PLAY", "rtsp://h/")
        assert text.startswith(("Digest ", "Basic "))


@settings(deadline=None)
@given(
    user=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
    password=TEXT.filter(lambda text: text.isprintable()),
)
def test_odd_names_and_passwords(user: str, password: str) -> None:
    maker = Authenticator(Credentials(user, password), Challenge("digest", {"nonce": "n"}))
    found = digest_fields(maker.authorization("PLAY", "rtsp://h/"))
    assert found["username"].replace('\\"', '"').replace("\\\\", "\\") == user or "\\" in user
    secret = hashlib.md5(f"{user}::{password}".encode()).hexdigest()
    asked = hashlib.md5(b"PLAY:rtsp://h/").hexdigest()
    assert found["response"] == hashlib.md5(f"{secret}:n:{asked}".encode()).hexdigest()


def test_a_password_is_not_shown() -> None:
    assert "Circle" not in repr(MUFASA)
