"""What operators read of a server that cannot be reached: no word of Python."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage

import pytest

from config.copies import Mail
from copies.orders.mail import ServerAway, submit
from tests.support.s3 import free_port


def mail(host: str, port: int, tls: str) -> Mail:
    return Mail.model_validate(
        {"host": host, "port": port, "tls": tls, "from": "copies@example.kz"}
    )


@pytest.mark.parametrize(
    ("tls", "greeting", "why"),
    [
        ("none", None, "connection refused"),
        ("none", b"hello\r\n", "what it says is not SMTP"),
        ("none", b"554 no\r\n", "it answers 554"),
        ("tls", b"220 mail\r\n", "TLS fails: wrong version number"),
    ],
)
async def test_a_mail_server_that_cannot_be_used(
    tls: str, greeting: bytes | None, why: str
) -> None:
    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting or b"")
        writer.close()

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port) if greeting else None
    with pytest.raises(ServerAway) as said:
        await submit(mail("127.0.0.1", port, tls), EmailMessage())
    assert str(said.value) == f"the mail server cannot be used: {why}"
    if server:
        server.close()
