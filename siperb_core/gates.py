"""Call gates: plugins that say whether a call may be made, asked one after the other, each with a deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from siperb_core.entries.contract import Refusal
from siperb_core.entries.decisions import CallAttempt, CallGate

log = structlog.get_logger("siperb.gates")

MOST_SECONDS = 30.0
"""No gate may take longer."""

_UNCHECKED = Refusal(503, "Call Could Not Be Checked")

Then = Callable[[Refusal | None], None]


class Gates:
    """The gates of all plugins, with their plugins' names. `fault` is told of a plugin that has done wrong; `spawn`
    runs a task as long as the gateway runs. `is_on` says whether a plugin is still asked: the gates of one that was
    switched off are as if they failed at once.
    """

    def __init__(
        self,
        gates: Sequence[tuple[str, CallGate]],
        fault: Callable[[str, str], None],
        spawn: Callable[..., object],
        is_on: Callable[[str], bool] = lambda plugin: True,
    ) -> None:
        self._gates = tuple(gates)
        self._fault = fault
        self._spawn = spawn
        self._is_on = is_on

    def admit(self, call: CallAttempt, then: Then) -> None:
        """Call `then` with a refusal or None: at once where no gate is concerned."""
        concerned = [(plugin, gate) for plugin, gate in self._gates if self._concerns(plugin, gate, call)]
        if concerned:
            self._spawn(self._ask, concerned, call, then)
        else:
            then(None)

    def _concerns(self, plugin: str, gate: CallGate, call: CallAttempt) -> bool:
        if not self._is_on(plugin):
            return not gate.admits_when_failing
        try:
            return bool(gate.concerns(call))
        except Exception as error:
            log.exception("plugin.failed", plugin=plugin, gate=gate.name)
            self._fault(plugin, f"{type(error).__name__} in gate {gate.name}")
            return not gate.admits_when_failing

    async def _ask(self, gates: Sequence[tuple[str, CallGate]], call: CallAttempt, then: Then) -> None:
        refusal: Refusal | None = None
        for plugin, gate in gates:
            refusal = await self._verdict(plugin, gate, call)
            if refusal is not None:
                log.info("call.refused_by_gate", call_id=call.call_id, gate=gate.name, status=refusal.status)
                break
        try:
            then(refusal)
        except Exception:  # ours, in one call
            log.exception("call.not_started", call_id=call.call_id)

    async def _verdict(self, plugin: str, gate: CallGate, call: CallAttempt) -> Refusal | None:
        if not self._is_on(plugin):
            return None if gate.admits_when_failing else _UNCHECKED
        wrong = ""
        try:
            with trio.fail_after(min(gate.seconds, MOST_SECONDS)):
                answer: object = await gate.admit(call)
            if answer is None or isinstance(answer, Refusal):
                return answer
            wrong = f"gate {gate.name} returned {type(answer).__name__}"
        except trio.TooSlowError:
            wrong = f"gate {gate.name} took more than {gate.seconds:g} s"
        except Exception as error:
            wrong = f"{type(error).__name__} in gate {gate.name}"
            log.exception("plugin.failed", plugin=plugin, gate=gate.name)
        log.warning("gate.failed", plugin=plugin, call_id=call.call_id, reason=wrong)
        self._fault(plugin, wrong)
        return None if gate.admits_when_failing else _UNCHECKED
