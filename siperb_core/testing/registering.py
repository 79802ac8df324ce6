"""A user agent that registers and stays registered (RFC 3261 section 10.2)."""

from __future__ import annotations

import trio

from siperb_core.sip import Flow, Message, NameAddr
from siperb_core.testing.user_agent import Credentials, UserAgent, token

_MOST_EXPIRES = 86_400


class Registration:
    """One registration. `contact` is the value of Contact as it is sent, without expires.

    The outcome of the last REGISTER is in `status` and `reason`; `expires` is what the registrar granted, in seconds.
    """

    def __init__(self, agent: UserAgent, flow: Flow, credentials: Credentials, domain: str, contact: str) -> None:
        self.status = 0
        self.reason = ""
        self.expires = 0
        self.response: Message | None = None
        self._agent = agent
        self._flow = flow
        self._credentials = credentials
        self._domain = domain
        self._contact = contact
        self._call_id = f"{token()}@{domain}"
        self._tag = token()
        self._cseq = 0
        self._scope = trio.CancelScope()

    async def register(self, expires: int = 300, *, user: str = "") -> None:
        """Send one REGISTER, a second to answer a challenge, a third where a longer expiry is asked for (423).

        `user` claims another address-of-record than the credentials'.
        """
        response = await self._send(expires, user)
        if response.status == 423:
            least = response.get("Min-Expires") or ""
            if least.isdigit() and expires < int(least) <= _MOST_EXPIRES:
                expires = int(least)
                response = await self._send(expires, user)
        self.response, self.status, self.reason = response, response.status, response.reason
        if response.status == 200:
            uri = NameAddr("", self._contact.partition("<")[2].partition(">")[0]).uri
            granted = next((c.param("expires") for c in response.contacts if c.uri == uri), None) or ""
            self.expires = int(granted) if granted.isdigit() else expires

    async def keep(self) -> None:
        """Refresh in time, until unregistered or refused."""
        with self._scope:
            while self.status == 200:
                await trio.sleep(max(self.expires * 0.8, 0.5))
                await self.register(self.expires)

    async def unregister(self) -> None:
        """Take the binding back and stop refreshing."""
        self._scope.cancel()
        await self.register(0)

    async def _send(self, expires: int, user: str) -> Message:
        address = NameAddr("", f"sip:{user or self._credentials.username}@{self._domain}")
        request = Message.request(
            "REGISTER",
            f"sip:{self._domain}",
            [
                ("Max-Forwards", "70"),
                ("From", str(address.with_param("tag", self._tag))),
                ("To", str(address)),
                ("Call-ID", self._call_id),
                ("CSeq", f"{self._cseq + 1} REGISTER"),
                ("Contact", f"{self._contact};expires={expires}"),
                ("Expires", str(expires)),
                ("Supported", "path, outbound"),
            ],
        )
        self._cseq += 2  # a challenge takes a number more
        return await self._agent.request(request, self._flow, self._credentials)
