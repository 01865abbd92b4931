"""A guard that nobody told where its keys are. `app` is the target of servers that are to fail."""

from ak_guard import ApiKeyMiddleware
from tests.support import echo_app

app = ApiKeyMiddleware(echo_app())
