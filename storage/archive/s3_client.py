"""One request to an S3 server: its deadlines, and what went wrong in the operator's words."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.awsrequest import AWSPreparedRequest
from botocore.client import BaseClient
from botocore.config import Config as BotoConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies

from base.clock import now_ms
from base.hostclock import LEAP_MS, elapsed_ms, span
from base.network import connection_words
from config.model import Archive as Settings
from storage.archive.blocking import THREADS, Source
from storage.archive.port import (
    ArchiveError,
    Fault,
    ObjectExists,
    ObjectNotFound,
    UnreadableSource,
)

# CONNECT_S is also how long 128 kB of an upload may take: urllib3 has one timeout for both, and
# botocore sends such pieces. READ_S is how long the server may take to answer, and between two
# pieces of an answer.
CONNECT_S, READ_S = 30, 120
# So much may wait in the kernel beyond what the network took. Left alone it swallows megabytes
# of a slow upload, then stands still for minutes, and the answer is waited for in vain.
UNSENT = 1 << 17
AMAZON = "https://s3.amazonaws.com"  # where no endpoint is named
_UNSUPPORTED = (
    "BadDigest",
    "InvalidArgument",
    "InvalidDigest",
    "InvalidRequest",
    "NotImplemented",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the bytes of one object may take, in either direction."""

    seconds_each: float = 60.0  # whatever its size
    bytes_per_s: int = 50_000  # the slowest link that is waited for, beyond that

    def seconds(self, length: int) -> float:
        """Return how long an object of this length in bytes may take."""
        return self.seconds_each + length / self.bytes_per_s


class UploadTimeout(Exception):
    """The bytes were not taken in time."""


class Unsupported(ArchiveError):
    """The server understood the request and does not take it."""


class _Body:
    """A file to send that gives up when its time is over: sockets only time out each write."""

    def __init__(self, file: Source, seconds: float):
        self._file, self._until = file, time.monotonic() + seconds
        self.seek, self.tell = file.seek, file.tell
        self.late = False
        self.unread: UnreadableSource | None = None  # botocore makes an error of its own of it

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes; raises TimeoutError when the time is over."""
        self.late = time.monotonic() > self._until
        if self.late:
            raise TimeoutError
        try:
            return self._file.read(size)
        except UnreadableSource as error:
            self.unread = error
            raise


def proxy_of(settings: Settings) -> str | None:
    """Return the proxy through which the environment has this server reached, as a URL without
    login; None where it is reached directly."""
    url = settings.endpoint or AMAZON
    proxy: str | None = get_environ_proxies(url).get(urlsplit(url).scheme)
    if not proxy:
        return None
    scheme, _, rest = proxy.rpartition("://")
    return f"{scheme or 'http'}://{rest.rpartition('@')[2]}"


class S3Client:
    """An S3 server as one archive's settings name it; `where` is what to call it in a message.

    `sends_sha256` is whether uploads go with their SHA-256; a few servers refuse that.
    """

    def __init__(self, settings: Settings):
        self._settings, self.sends_sha256 = settings, True
        self.server_time: tuple[int, float] | None = None  # see Archive
        self.prefix = f"{settings.prefix}/" if settings.prefix else ""
        self.where = settings.url + (f" at {settings.endpoint}" if settings.endpoint else "")
        if proxy := proxy_of(settings):
            self.where += f" through the proxy {proxy}"
        self._client: BaseClient | None = None
        self._making = threading.Lock()

    def _made(self) -> BaseClient:
        """Return boto3's client, made when it is first asked for something: a profile or a region
        that there is not is found out here, and ends no process. Raises ArchiveError."""
        with self._making:
            if self._client is None:
                try:
                    self._client = self._make()
                except (BotoCoreError, ValueError) as error:
                    what = "correct 'profile', 'region', 'endpoint' or the AWS variables and files"
                    why = str(error).rstrip(".")
                    text = f"{self.where}: cannot be asked: {why}: {what}"
                    raise ArchiveError(text, Fault.CREDENTIALS) from None
            return self._client

    def _make(self) -> BaseClient:
        settings = self._settings
        secret, core = settings.secret_access_key, botocore.session.Session()
        session = boto3.Session(
            botocore_session=core,
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            region_name=settings.region,
            profile_name=settings.profile,
        )
        client: BaseClient = session.client(
            "s3",
            endpoint_url=settings.endpoint,
            config=BotoConfig(
                signature_version="s3v4",
                s3={
                    "addressing_style": "path" if settings.endpoint else "auto",
                    # TLS and the checksum vouch for the bytes: no need to hash them once more
                    "payload_signing_enabled": (settings.endpoint or "").startswith("http:"),
                },
                retries={"total_max_attempts": 1},  # the uploader retries, for ever
                # SHA-256 is given with each put; other checksums not every server knows
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        verify: Any = core.get_config_variable("ca_bundle")
        verify = verify or os.environ.get("REQUESTS_CA_BUNDLE", True)
        options: Any = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT),
        ]
        timeouts: Any = (CONNECT_S, READ_S)
        http = URLLib3Session(  # as boto3's own, which takes no options for its sockets
            timeout=timeouts,
            max_pool_connections=THREADS * len(settings.buckets),
            proxies=get_environ_proxies(client.meta.endpoint_url),
            verify=verify,
            socket_options=options,
        )

        def send(request: AWSPreparedRequest, **_: object) -> Any:
            answer = http.send(request)
            self._take_time(answer.headers.get("Date"))
            return answer

        client.meta.events.register("before-send.s3", send)
        return client

    def _take_time(self, date: str | None) -> None:
        """Take note of the `Date` of an answer (RFC 9110 section 6.6.1), where it has one."""
        with contextlib.suppress(ValueError, TypeError):
            at = parsedate_to_datetime(date or "")
            if at.tzinfo is None:  # always UTC, also where a server does not say so (5.6.7)
                at = at.replace(tzinfo=UTC)
            self.server_time = int(at.timestamp() * 1000), elapsed_ms()

    def call(
        self,
        name: str,
        bucket: str,
        key: str | None = None,
        seconds: float = 0,
        data: Source | None = None,
        sha256: str = "",
        **arguments: Any,
    ) -> Any:
        """Ask for an operation of boto3's client; `data` is to be sent within `seconds`.

        Raises ObjectNotFound, ObjectExists where it may not be replaced, UploadTimeout,
        UnreadableSource, Unsupported, ArchiveError.
        """
        client = self._made()
        if key is not None:
            arguments["Key"] = self.prefix + key
        body = None
        if data is not None:
            arguments["Body"] = body = _Body(data, seconds)
            if self.sends_sha256:
                arguments["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
                arguments["ChecksumAlgorithm"] = "SHA256"  # some servers want to be told, too
            # also with the probes: buckets may refuse what is not to be encrypted
            if self._settings.encryption:
                arguments["ServerSideEncryption"] = self._settings.encryption
            if self._settings.kms_key_id:
                arguments["SSEKMSKeyId"] = self._settings.kms_key_id
        try:
            return getattr(client, name)(Bucket=bucket, **arguments)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status == 404 and code != "NoSuchBucket" and data is None:
                raise ObjectNotFound(key or bucket) from None
            if status == 412 and "IfNoneMatch" in arguments:
                raise ObjectExists(key or bucket) from None
            kind = Unsupported if code in _UNSUPPORTED or status == 501 else ArchiveError
            said = error.response.get("Error", {}).get("Message", "")
            fault, text = _advice(code, status, said, self.server_time)
            raise kind(f"{self.where}: {text}", fault) from None
        except (BotoCoreError, ResponseParserError, OSError) as error:
            if body is not None and body.unread is not None:
                raise body.unread from None
            if body is not None and (body.late or _timed_out_sending(error)):
                raise UploadTimeout from None
            fault, text = describe_error(error)
            raise ArchiveError(f"{self.where}: {text}", fault) from None


def _timed_out_sending(error: BaseException | None) -> bool:
    """Say whether the network took nothing for CONNECT_S; urllib3 tells only by the cause."""
    if not isinstance(error, ConnectionClosedError):
        return False
    while error is not None and not isinstance(error, TimeoutError):
        error = error.__cause__ or error.__context__
    return error is not None


def describe_error(error: BaseException) -> tuple[Fault, str]:
    """Say what kept a request from being made or answered."""
    for kind, fault, text in (
        (
            NoCredentialsError,
            Fault.CREDENTIALS,
            "no credentials: give a key, a profile, or the usual AWS variables",
        ),
        (SSLError, Fault.CERTIFICATE, f"its certificate is not accepted: {error}"),
        (
            ConnectTimeoutError,
            Fault.UNREACHABLE,
            f"cannot be reached: nobody answers in {CONNECT_S} s",
        ),
        (ReadTimeoutError, Fault.SLOW, f"gave no answer in {READ_S} s: too slow"),
        (ConnectionClosedError, Fault.UNREACHABLE, "cut the connection without an answer"),
        ((ResponseStreamingError, IncompleteReadError), Fault.UNREACHABLE, "cut the connection"),
    ):
        if isinstance(error, kind):
            return fault, text
    if isinstance(error, ResponseParserError):
        return Fault.OTHER, "gives an answer that is not one of S3"
    return Fault.UNREACHABLE, f"cannot be reached: {connection_words(error)}"


def _advice(
    code: str, status: int, said: str, server_time: tuple[int, float] | None
) -> tuple[Fault, str]:
    if code == "RequestTimeTooSkewed" and server_time is not None:
        off_ms = now_ms() - server_time[0] - (elapsed_ms() - server_time[1])
        if abs(off_ms) > LEAP_MS:
            return Fault.CLOCK, (
                f"the clock of this machine is off by {span(off_ms)} against the server: "
                f"set both by NTP ({code})"
            )
    for codes, fault, text in (
        (
            ("InvalidAccessKeyId", "SignatureDoesNotMatch"),
            Fault.CREDENTIALS,
            "the key is refused: check the credentials",
        ),
        (
            ("AccessDenied", "403"),
            Fault.CREDENTIALS,
            "access is denied: the key may not write here",
        ),
        (("NoSuchBucket",), Fault.BUCKET, "there is no such bucket: create it or correct the name"),
        (
            ("RequestTimeTooSkewed",),
            Fault.CLOCK,
            "its clock and this machine's differ too much: set both by NTP",
        ),
        (
            ("BadDigest", "XAmzContentChecksumMismatch"),
            Fault.ALTERED,
            "other bytes arrived than were sent",
        ),
        (("SlowDown", "ServiceUnavailable"), Fault.SLOW, "is overloaded"),
    ):
        if code in codes:
            return fault, f"{text} ({code})"
    return Fault.OTHER, f"answers {status} {code}: {said[:200]}"
