"""`ak-guard serve`: the key service and what people manage keys with, on a port."""

# No `from __future__ import annotations`: see desk.py.

import json
import os
import socket
from typing import Annotated, Final

import typer

from ak_guard.cli import exits
from ak_guard.cli.desk import AsJson, Desk, examples
from ak_guard.errors import ConfigurationError
from ak_guard.manager import KeyManager

# Longer than clients keep a connection that they do not use: whoever closes first shall be the client.
_KEEP_ALIVE_SECONDS: Final = 75
# Whoever still waits for changes then is cut off, and asks again elsewhere.
_GRACE_SECONDS: Final = 3
_BACKLOG: Final = 2_048

Backend = Annotated[
    str | None,
    typer.Option("--backend", "--db", metavar="URL", help="Where keys are kept. Default: AK_GUARD_BACKEND."),
]


def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The port; 0 takes a free one and says which.")] = 9_000,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 and :: are all.")] = "127.0.0.1",
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Serve the console for people at /, and keys to guards elsewhere: the key service under /v1/.

    The console asks for an admin token, which `ak-guard init` and `ak-guard admin-token create` make.
    Guards name it as their backend: http://HOST:PORT. Who may ask is said by AK_GUARD_SERVICE_TOKENS, separated by
    commas, the newest first; without it nobody may. Ends with SIGINT or SIGTERM.
    """
    import uvicorn  # noqa: PLC0415  # other commands shall not wait for it

    from ak_guard.admin import serve_app  # noqa: PLC0415  # the extra may be missing
    from ak_guard.admin.service_tokens import TOKENS_VARIABLE  # noqa: PLC0415

    desk = Desk(context, backend, as_json, serves=True)
    app = serve_app(KeyManager(desk.backend))
    listener = _listener(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    typer.echo(json.dumps({"url": url}) if desk.as_json else f"serving on {url}")
    if not os.environ.get(TOKENS_VARIABLE):
        desk.note(f"{TOKENS_VARIABLE} is not set, so no guard may ask the key service")

    class Server(uvicorn.Server):
        """Whoever waits for a change is answered before the server waits for those it answers."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await app.hang_up()
            await super().shutdown(sockets)

    server = Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    server.run(sockets=[listener])
    if not server.started:
        raise typer.Exit(exits.SETUP)


def _listener(host: str, port: int) -> socket.socket:
    """Bound before anything is served, so that a port that is taken is told in one line."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With its protocol named, asyncio turns Nagle's delay off; without, each answer waits 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Whoever reads where it is may come before the server is up.
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"port: cannot listen on {host}:{port} ({error.strerror})") from error
    return listener


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(epilog=examples("serve", "serve --port 9000 --host 0.0.0.0"))(serve)
