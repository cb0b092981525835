"""The archive that the configuration names."""

from __future__ import annotations

from config.model import Archive as Settings
from storage.archive.directory import DirectoryArchive
from storage.archive.port import Archive


def open_archive(settings: Settings) -> Archive:
    """Return the archive that the configuration names."""
    if settings.directory is not None:
        return DirectoryArchive(settings.name, settings.directory, settings.mount)
    from storage.archive.s3 import S3Archive  # boto3 takes half a second to load

    return S3Archive(settings)


def proxy_of(settings: Settings) -> str | None:
    """Return the proxy through which an archive is reached, without its login; None for none."""
    if settings.directory is not None:
        return None
    from storage.archive import s3_client

    return s3_client.proxy_of(settings)
