"""NetBox's WSGI application with its styles and scripts, run inside NetBox's virtual environment by gunicorn."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable
from typing import Any

# Importing NetBox makes millions of objects that stay: looking through them for garbage is a quarter of the start.
gc.disable()

from django.contrib.staticfiles.handlers import StaticFilesHandler  # noqa: E402
from netbox.wsgi import application as netbox_application  # noqa: E402

gc.freeze()
gc.enable()


def reading_bodies(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """``application``, with what it left unread of a request's body read before its answer goes out.

    NetBox refuses a POST (403) without reading it. gunicorn then reads the body after the answer, and with it the
    client's next request, when that is there already: it lies in gunicorn's buffer until the keep-alive time is over.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = application(environ, start_response)
        while environ["wsgi.input"].read(65536):
            pass
        return body

    return answer


# Serves /static/ from the packages themselves, so that pages are styled without a collectstatic run. Slow and not
# hardened (Django says so): right for a demo on the loopback interface, and nowhere else.
application = reading_bodies(StaticFilesHandler(netbox_application))
