"""The processes that a configuration asks for."""

from __future__ import annotations

from config.model import Config


def processes(config: Config) -> dict[str, tuple[str, int, int]]:
    """Return role, share and number of shares of each process, by its name ("recorder-0")."""
    roles = [
        *((("node", 0, 1),) if config.node else ()),
        *(("recorder", n, config.workers) for n in range(config.workers)),
        ("uploader", 0, 1),
        *((("orders", 0, 1),) if config.copies else ()),
        *([("pictures", 0, 1)] if config.pictures_s else []),
        *(("web", n, config.web.processes) for n in range(config.web.processes)),
    ]
    return {f"{role}-{n}": (role, n, of) for role, n, of in roles}
