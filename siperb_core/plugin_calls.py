"""Hooks, called one by one: a plugin that raises costs its own answer and nothing else; it is logged and counted, and
switched off when it does so again and again. The only place that asks pluggy.
"""

from __future__ import annotations

import inspect
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pluggy

from siperb_core import hookspecs
from siperb_core.faults import MOST_FAULTS, Faults
from siperb_core.hook_trace import SECRET, is_traced, print_call
from siperb_core.plugin_finding import Unusable, sentence
from siperb_core.sdp import SdpError

_Call = tuple[str, Callable[..., Any], tuple[str, ...]]
"""Plugin, function, names of the arguments it takes."""


class HookCalls:
    """Who implements which hook, in which order they are asked, and how often each has failed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.errors: Counter[str] = Counter()
        """Exceptions raised in hooks, by plugin."""
        self._clock = clock
        self._calls: dict[str, tuple[_Call, ...]] = {}  # of each hook, in order; filled when it is first called
        self._faults: defaultdict[str, Faults] = defaultdict(Faults)
        self._own: set[str] = set()  # the gateway's own, never switched off
        self._trace = is_traced()
        self._pm = pluggy.PluginManager("siperb")
        self._pm.add_hookspecs(hookspecs)
        self._order: dict[str, int] = {}  # by when it was loaded

    def _enlist(self, name: str, plugin: object) -> None:
        """Have its hooks called from now on. Raises Unusable, and nothing of it stays."""
        self._calls.clear()
        try:
            self._pm.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._pm.get_plugin(name) is plugin:  # pluggy leaves it half registered
                self._pm.unregister(plugin)
            raise Unusable(sentence(error)) from error
        try:
            self._check_hooks(name, plugin)
        except Unusable:
            self._strike_off(plugin)
            raise
        self._order[name] = len(self._order)

    def _strike_off(self, plugin: object) -> None:
        self._pm.unregister(plugin)
        self._calls.clear()

    def _hooks_of(self, plugin: object) -> list[str]:
        return [caller.name for caller in self._pm.get_hookcallers(plugin) or ()]

    def _check_hooks(self, name: str, plugin: object) -> None:
        for caller in self._pm.get_hookcallers(plugin) or ():
            for impl in caller.get_hookimpls():
                if impl.plugin_name != name:
                    continue
                if not caller.has_spec():
                    raise Unusable(f"there is no hook {caller.name}")
                if impl.hookwrapper or impl.wrapper:
                    raise Unusable(f"{caller.name} is a wrapper, which this gateway does not call")
                if inspect.iscoroutinefunction(impl.function):
                    raise Unusable(f"{caller.name} is async; hooks are synchronous and return things that are async")

    def _gather(self, name: str, hook: str) -> list[Any]:
        """What one plugin returns from a hook that is called once: a list, of its one answer where it is no list."""
        for impl in self._implementations(hook):
            if impl.plugin_name == name:
                try:
                    return [impl.function()] if hook == "siperb_settings" else list(impl.function())
                except Exception as error:
                    raise Unusable(f"{hook} raised {sentence(error)}") from error
        return []

    def _implementations(self, hook: str) -> Iterator[Any]:
        """In the order they are asked: those that want to be first, then as loaded, then those that want to be last."""
        impls: list[Any] = getattr(self._pm.hook, hook).get_hookimpls()
        return iter(
            sorted(impls, key=lambda impl: (impl.trylast - impl.tryfirst, self._order.get(impl.plugin_name, 0)))
        )

    def _calls_of(self, hook: str) -> tuple[_Call, ...]:
        calls = self._calls.get(hook)
        if calls is None:
            calls = tuple((impl.plugin_name, impl.function, impl.argnames) for impl in self._implementations(hook))
            self._calls[hook] = calls
        return calls

    def _each(self, hook: str, **arguments: object) -> Iterator[tuple[str, Any]]:
        """Call every implementation, one by one; one that raises is logged, counted and passed over."""
        for plugin, function, names in self._calls_of(hook):
            yield from self._asked(hook, plugin, function, names, arguments)

    def _asked(
        self, hook: str, plugin: str, function: Callable[..., Any], names: tuple[str, ...], arguments: dict[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        """One implementation's answer; nothing where it raised."""
        if "gateway" in arguments:  # each plugin sees its own table
            arguments = {**arguments, "gateway": arguments["gateway"](plugin)}
        try:
            result = function(*[arguments[name] for name in names])
        except SdpError:
            raise  # a verdict on the other side's SDP, which a call is answered with
        except Exception as error:
            log().exception("plugin.failed", plugin=plugin, hook=hook)
            self.fault(plugin, f"{sentence(error)} in {hook}")
            if self._trace:
                print_call(hook, names, arguments, plugin, f"raised {sentence(error)}")
            return
        if self._trace:
            print_call(hook, names, arguments, plugin, "(a secret)" if hook in SECRET and result else repr(result))
        yield plugin, result

    def _given(self, hook: str, **arguments: object) -> list[tuple[str, Any]]:
        """The things all implementations of a hook return in lists, each with its plugin's name."""
        found: list[tuple[str, Any]] = []
        for plugin, result in self._each(hook, **arguments):
            if isinstance(result, list | tuple):
                found += [(plugin, thing) for thing in result]
            elif result is not None:
                self._misfit(plugin, hook, result)
        return found

    def is_on(self, plugin: str) -> bool:
        """Whether it is asked: it is loaded, and was not switched off."""
        return self._pm.has_plugin(plugin)

    def fault(self, plugin: str, what: str) -> None:
        """A plugin has done wrong: counted, and after too many in a short time its hooks are not called any more.

        Its connection types and transports stay: what depends on them fails, and is tried again, by itself.
        """
        self.errors[plugin] += 1
        seconds = self._faults[plugin].add(self._clock())
        if seconds is None or plugin in self._own:
            return
        loaded = self._pm.get_plugin(plugin)
        if loaded is None:
            return  # it is off already
        self._strike_off(loaded)
        reason = f"switched off after {MOST_FAULTS} faults in {seconds:.0f} s, the last: {what}"
        log().error("plugin.switched_off", plugin=plugin, reason=reason)
        self._switched_off(plugin, reason)

    def _switched_off(self, plugin: str, reason: str) -> None:
        """A plugin's hooks are not called any more."""

    def _misfit(self, plugin: str, hook: str, result: object, reason: str = "") -> None:
        log().error("plugin.misfit", plugin=plugin, hook=hook, returned=type(result).__name__, reason=reason or None)
        self.fault(plugin, f"{hook} returned {type(result).__name__}" + (reason and f": {reason}"))


def log() -> Any:
    """The log, imported when there is something to say: a fifth of the start of a quick command otherwise."""
    import structlog

    return structlog.get_logger("siperb.plugins")
