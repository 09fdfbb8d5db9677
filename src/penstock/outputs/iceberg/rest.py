"""A catalog behind HTTP whose requests have a deadline and the TLS options of the configuration."""

from __future__ import annotations

from functools import partial
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from requests import Session

from ...clients.tls import Tls


class PatientCatalog(RestCatalog):
    """A REST catalog that gives a request up after ``timeout`` seconds of silence: pyiceberg waits for ever."""

    def __init__(self, name: str, timeout: float, tls: Tls | None, **properties: Any) -> None:
        self._timeout, self._tls = timeout, tls
        super().__init__(name, **properties)

    def _create_session(self) -> Session:
        session = super()._create_session()
        given: dict[str, Any] = {"timeout": self._timeout}
        if (tls := self._tls) is not None:  # with each request, since REQUESTS_CA_BUNDLE goes before a session's own
            given["verify"] = (str(tls.ca) if tls.ca else True) if tls.verify else False
            if tls.certificate is not None:
                given["cert"] = (str(tls.certificate), str(tls.key)) if tls.key else str(tls.certificate)
        session.request = partial(session.request, **given)  # type: ignore[method-assign]
        return session
