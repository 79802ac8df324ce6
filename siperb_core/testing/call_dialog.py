"""The dialog of a user agent's call (RFC 3261 section 12): who is who, where requests go, and how they are numbered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from siperb_core.sip import Message, NameAddr, response_to
from siperb_core.testing.user_agent import ALLOW, token


class CallDialog:
    """Both ends' names and tags, the remote target and the route set."""

    def __init__(self, *, contact: str, local: NameAddr, remote: NameAddr, call_id: str) -> None:
        self.call_id = call_id
        self.local, self.remote = local, remote
        self.local_tag, self.remote_tag = token(), ""
        self._contact = contact
        self._target = ""
        self._routes: Sequence[str] = ()
        self._cseq = 0
        self._remote_cseq = -1

    def _request(
        self, method: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", *, contact: bool = False
    ) -> Message:
        if method not in ("ACK", "CANCEL"):
            self._cseq += 1
        fields = [
            ("Max-Forwards", "70"),
            ("From", str(self.local.with_param("tag", self.local_tag))),
            ("To", str(self.remote.with_param("tag", self.remote_tag) if self.remote_tag else self.remote)),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self._cseq} {method}"),
            *(("Route", route) for route in self._routes),
        ]
        if contact or method in ("INVITE", "UPDATE"):
            fields.append(("Contact", self._contact))
        return Message.request(method, self._target, [*fields, *headers], body)

    def _response(self, request: Message, status: int, body: bytes = b"") -> Message:
        headers = [("Contact", self._contact), ("Allow", ALLOW)]
        headers += [("Record-Route", value) for value in request.get_all("Record-Route")]
        return response_to(
            request,
            status,
            to_tag=self.local_tag,
            headers=headers,
            body=body,
            content_type="application/sdp" if body else None,
        )

    def _establish(self, response: Message) -> None:
        """The dialog as a 2xx to our INVITE makes it (section 12.1.2)."""
        self.remote_tag = response.to_tag
        self._routes = tuple(reversed(response.values("Record-Route")))
        self._learn_target(response)

    def _learn_target(self, message: Message) -> None:
        contacts = message.contacts
        if contacts:
            self._target = contacts[0].uri
