"""An MCP server over streamable HTTP: wrapped, so that the lifespan in which its sessions live is run."""

# No `from __future__ import annotations`: the server reads them while it runs.

from typing import Any

from mcp.server.mcpserver import Context, MCPServer

from ak_guard import ApiKeyMiddleware
from ak_guard.backends import KeyLookup


def build(backend: KeyLookup) -> ApiKeyMiddleware:
    server = MCPServer("notes")

    @server.tool()
    async def whoami(context: Context[Any, Any]) -> str:
        """Whose key this is."""
        request = context.request_context.request
        name: str = request.state.ak_guard.key.name if request is not None else "nobody"
        return name

    return ApiKeyMiddleware(server.streamable_http_app(), backend=backend)
