"""`check_connection_type`: holds a connection type against its contract (`siperb_core.ConnectionType`).

It serves the type against a fake PBX on virtual time, in every weather, and cancels it at every step. The first thing
that is not as it should be is raised as NotConformant, an AssertionError that says what.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import trio

from siperb_core.entries.contract import Connection, ConnectionType
from siperb_core.entries.diagnostics import describe, secrets_of
from siperb_core.entries.failure import Failure, classify
from siperb_core.entries.fields import is_name
from siperb_core.entries.lifecycle import UNLOAD_SECONDS
from siperb_core.entries.model import Entry, Secret
from siperb_core.entries.structure import Structurer
from siperb_core.sip import Message, response_to
from siperb_core.testing.conformance_live import check_live
from siperb_core.testing.conformance_purity import NotConformant, no_io, open_sockets, require
from siperb_core.testing.fakes import LOST, Answer, FakeEntry, FakePbx, Scripted, settings_of

MOST_STEPS = 150
"""So many steps of a type are cancelled at, one after the other."""
SPINNING = 50_000
"""Steps in one run: who takes more turns in a loop that waits for nothing."""
HORIZON = 900.0
"""Virtual seconds a type is watched for while it is cancelled: long enough for a few refreshes."""
MOST_REQUESTS = 600
"""In an hour: more than one in six seconds is hammering."""

STATUSES = (302, 400, 403, 404, 405, 408, 423, 480, 486, 488, 500, 501, 503, 513, 600, 603, 699)
WRONG: Mapping[str, Scripted] = {
    "a 200 without headers": lambda request: Message.response(200, "OK", []),
    "a 200 without a Contact": Answer(200),
    "a Contact nobody can read": Answer(200, (("Contact", '"<<>;expires=x'),)),
    "an expiry of 0": lambda request: response_to(request, 200, headers=[("Contact", _contact(request, "0"))]),
    "an expiry that is no number": lambda request: response_to(
        request, 200, headers=[("Contact", _contact(request, "soon")), ("Expires", "-1")]
    ),
    "a challenge without a challenge": Answer(401),
    "a challenge nobody can read": Answer(401, (("WWW-Authenticate", 'Digest realm="'),)),
    "a challenge of an unknown kind": Answer(407, (("Proxy-Authenticate", 'Negotiate x="y"'),)),
    "423 without a Min-Expires": Answer(423),
    "a Retry-After nobody can read": Answer(503, (("Retry-After", "later"),)),
}


def _contact(request: Message, expires: str) -> str:
    written = (request.get("Contact") or "<sip:nobody@192.0.2.1>").partition(">")[0]
    return f"{written}>;expires={expires}"


@attrs.define
class _Run:
    """What came of serving once."""

    ctx: FakeEntry
    connection: Connection | None = None
    started: int = 0
    error: BaseException | None = None
    ended: bool = False
    """By itself, before it was told to."""
    steps: int = 0

    @property
    def failure(self) -> Failure | None:
        return None if self.error is None else classify(self.error)


class _Status:
    """`task_status`, which counts."""

    def __init__(self, run: _Run, settled: trio.Event) -> None:
        self._run = run
        self._settled = settled

    def started(self, value: Any = None) -> None:
        self._run.started += 1
        self._run.connection = value
        self._settled.set()


class _Steps(trio.abc.Instrument):
    """Counts the steps of a task and of its children, and cancels at one of them."""

    def __init__(self, run: _Run, scope: trio.CancelScope, at: int | None) -> None:
        self._run, self._scope, self._at = run, scope, at
        self.root: trio.lowlevel.Task | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Called by trio where a task has come to a checkpoint."""
        ancestor: trio.lowlevel.Task | None = task
        while ancestor is not None and ancestor is not self.root:
            ancestor = ancestor.parent_nursery.parent_task if ancestor.parent_nursery else None
        if ancestor is None:
            return
        self._run.steps += 1
        if self._run.steps == self._at or self._run.steps > SPINNING:
            self._scope.cancel()


class _Suite:
    def __init__(self, kind: ConnectionType, config: Any, accounts: Mapping[str, str], entry: Entry) -> None:
        self.kind = kind
        self.config = config
        self.accounts = accounts
        self.entry = entry
        self.secrets = [text for text in {*secrets_of(config), *accounts.values()} if len(text) >= 4]
        self.told: list[str] = []

    def surroundings(self, pbx: FakePbx | None = None) -> FakeEntry:
        ctx = FakeEntry(self.entry, pbx or FakePbx(self.accounts))
        ctx.most_requests = MOST_REQUESTS
        return ctx

    async def serve(
        self,
        ctx: FakeEntry,
        seconds: float,
        *,
        cancel_at: int | None = None,
        loaded: Callable[[Connection], None] = lambda connection: None,
        before_unload: Callable[[], None] = lambda: None,
    ) -> _Run:
        """Serve for so long, then cancel; it has to be gone in time and to leave nothing behind."""
        run = _Run(ctx)
        tasks = trio.lowlevel.current_statistics().tasks_living
        sockets = open_sockets()
        scope = trio.CancelScope()
        steps = _Steps(run, scope, cancel_at)

        async def serving() -> None:
            steps.root = trio.lowlevel.current_task()
            try:
                with scope:
                    await self.kind.serve(ctx, self.config, task_status=_Status(run, settled))
            except Exception as error:
                run.error = error
            run.ended = not scope.cancel_called
            gone.set()
            settled.set()

        gone, settled = trio.Event(), trio.Event()
        fault: NotConformant | None = None
        trio.lowlevel.add_instrument(steps)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serving)
                try:
                    with trio.move_on_after(seconds):
                        await settled.wait()
                        if run.connection is not None:
                            loaded(run.connection)
                        await gone.wait()
                    if not gone.is_set():
                        before_unload()
                        scope.cancel()
                        with trio.move_on_after(UNLOAD_SECONDS):
                            await gone.wait()
                        require(gone.is_set(), f"serve has not ended {UNLOAD_SECONDS:g} s after it was cancelled")
                except NotConformant as found:
                    fault = found  # raised below: a nursery would put it into a group
                    scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(steps)
        if fault is not None:
            raise fault
        await trio.testing.wait_all_tasks_blocked()
        where = "" if cancel_at is None else f" when it is cancelled at step {cancel_at}"
        left = trio.lowlevel.current_statistics().tasks_living - tasks
        require(left <= 0, f"serve leaves {left} task(s) behind{where}")
        if sockets is not None:
            require(not (open_sockets() or frozenset()) - sockets, f"serve leaves a socket open{where}")
        require(run.steps <= SPINNING, "serve turns in a loop without waiting for anything")
        require(run.started <= 1, "serve calls task_status.started more than once")
        if run.error is not None:
            self.told.append(repr(run.error) + str(run.error))
            require(
                not classify(run.error).crash,
                f"serve raises what is no exception of the contract{where}: {run.error!r}",
            )
        self._overhear(ctx)
        return run

    async def probe(self, ctx: FakeEntry) -> Failure | None:
        failure = None
        run = _Run(ctx)
        with trio.move_on_after(3600) as waiting:
            steps = _Steps(run, waiting, None)
            steps.root = trio.lowlevel.current_task()
            trio.lowlevel.add_instrument(steps)
            try:
                await self.kind.probe(ctx, self.config)
            except Exception as error:
                failure = classify(error)
                self.told.append(repr(error) + str(error))
                require(not failure.crash, f"probe raises what is no exception of the contract: {error!r}")
            finally:
                trio.lowlevel.remove_instrument(steps)
        require(run.steps <= SPINNING, "probe turns in a loop without waiting for anything")
        require(not waiting.cancelled_caught, "probe does not come to an end")
        self._overhear(ctx)
        return failure

    def _overhear(self, ctx: FakeEntry) -> None:
        self.told += [str(ctx.logged), str(ctx.registrations), str(ctx.issues)]
        self.told += [bytes(message).decode("utf-8", "replace") for message, _ in ctx.sent]

    # ---- the checks

    def shape(self) -> None:
        kind = self.kind
        require(isinstance(kind.kind, str) and is_name(kind.kind), f"kind is {kind.kind!r}, which no entry can name")
        require(isinstance(kind.title, str) and kind.title.strip(), "title is empty")
        require(isinstance(kind.version, int) and kind.version >= 1, "version is to be a number from 1")
        require(attrs.has(kind.config_class), "config_class is not an attrs class")
        require(isinstance(kind.allow_from_required, bool), "allow_from_required is to be True or False")
        for name in ("probe", "serve"):
            require(inspect.iscoroutinefunction(getattr(kind, name, None)), f"{name} is to be an async method")
        with no_io("unique_id"):
            first, again = kind.unique_id(self.config), kind.unique_id(self.config)
        require(first is None or isinstance(first, str), "unique_id is to be text or None")
        require(first == again, "unique_id gives another answer the second time")

    def migrates(self, settings: Mapping[str, Any], old: Mapping[int, Mapping[str, Any]]) -> None:
        kind = self.kind
        missing = sorted(set(range(1, kind.version)) - set(old))
        require(not missing, f"migrate is not tried: give old_settings of version(s) {missing}")
        for version, data in {**old, kind.version: settings}.items():
            before = repr(data)
            with no_io("migrate"):
                first, again = kind.migrate(data, version), kind.migrate(data, version)
                settled = kind.migrate(first, kind.version)
            require(repr(data) == before, f"migrate changes the settings of version {version} it is given")
            require(dict(first) == dict(again), f"migrate gives another answer the second time, from version {version}")
            require(dict(settled) == dict(first), f"migrate is not idempotent, from version {version}")
            if version == kind.version:
                require(dict(first) == dict(data), "migrate changes settings that are of this version")
            settings_of(kind, first)

    async def loads(self) -> tuple[bool, bool]:
        """Whether it registers, and whether it shows credentials."""
        ctx = self.surroundings()
        held: list[bool] = []
        run = await self.serve(
            ctx,
            3600,
            loaded=lambda live: check_live(live, ctx, self.told),
            before_unload=lambda: held.append(bool(ctx.pbx.all_bindings)),
        )
        require(run.started, f"serve does not call task_status.started with a PBX that is well: {run.error!r}")
        require(not run.ended, f"serve ends by itself with a PBX that is well: {run.error!r}")
        require(len(ctx.sent) <= MOST_REQUESTS, f"the PBX gets {len(ctx.sent)} requests in an hour")
        require(not ctx.pbx.all_bindings, "a binding is left on the PBX after unloading")
        again = await self.serve(ctx.restarted(), 60)
        require(again.started, f"it does not load again after a restart of the gateway: {again.error!r}")
        return any(held), ctx.pbx.challenged > 0

    async def cancelled_at_every_step(self) -> None:
        for step in range(1, MOST_STEPS + 1):
            ctx = self.surroundings()
            run = await self.serve(ctx, HORIZON, cancel_at=step)
            bindings = ctx.pbx.all_bindings
            require(not bindings, f"a binding is left on the PBX when serve is cancelled at step {step}")
            if run.steps < step:
                return

    async def unloads_in_time(self) -> None:
        ctx = self.surroundings()

        def fall_silent() -> None:
            ctx.pbx.down = True

        await self.serve(ctx, 100, before_unload=fall_silent)
        for seconds in (0.0, 0.005, 1.0, 33.0):
            silent = FakePbx(self.accounts)
            silent.down = True
            await self.serve(self.surroundings(silent), seconds)

    async def classifies(self) -> None:
        answers: dict[str, Scripted] = {str(status): status for status in STATUSES}
        for name, answer in {**answers, **WRONG, "no answer": LOST, "a slow answer": Answer(200, delay=20.0)}.items():
            for what in ("at first", "later on"):
                pbx = FakePbx(self.accounts)
                if what == "at first":
                    pbx.always = answer
                    await self.probe(self.surroundings(pbx))
                ctx = self.surroundings(pbx)

                def turn(live: Connection, pbx: FakePbx = pbx, answer: Scripted = answer) -> None:
                    pbx.always = answer

                await self.serve(ctx, HORIZON, loaded=turn)
                most = MOST_REQUESTS
                require(
                    len(ctx.sent) <= most, f"the PBX gets {len(ctx.sent)} requests in {HORIZON:g} s for {name} {what}"
                )

    async def honours_retry_after(self) -> None:
        pbx = FakePbx(self.accounts)
        pbx.always = Answer(503, (("Retry-After", "17"),))
        failure = (await self.serve(self.surroundings(pbx), HORIZON)).failure
        if failure is not None and failure.state == "retry":
            require(failure.retry_after == 17, f"Retry-After: 17 becomes retry_after={failure.retry_after}")

    async def gives_up_a_wrong_password(self) -> None:
        wrong = {name: f"not-{password}" for name, password in self.accounts.items()}
        for what in ("serve", "probe"):
            pbx = FakePbx(wrong)
            ctx = self.surroundings(pbx)
            failure = (await self.serve(ctx, HORIZON)).failure if what == "serve" else await self.probe(ctx)
            if what == "probe" and not pbx.challenged:
                continue
            state = failure.state if failure else "loaded"
            require(
                state == "auth_failed", f"{what} with a wrong password ends as {state}, not by ConnectionAuthFailed"
            )
            require(pbx.shown_wrong <= 2, f"{what} shows a wrong password {pbx.shown_wrong} times")

    async def survives_weather(self, registers: bool) -> None:
        pbx = FakePbx(self.accounts)
        bound: list[bool] = []
        await self.serve(
            self.surroundings(pbx),
            3600,
            loaded=lambda live: pbx.restart(),
            before_unload=lambda: bound.append(bool(pbx.all_bindings)),
        )
        if registers and bound:
            require(bound[0], "a PBX that was restarted is not registered with again")
        losing = FakePbx(self.accounts)
        losing.loses([index % 3 == 1 for index in range(100)])
        await self.serve(self.surroundings(losing), HORIZON)

    def keeps_secrets(self) -> None:
        entry = attrs.evolve(self.entry, settings=self.config)
        self.told += [repr(self.config), str(describe(entry, secrets_of(self.config))), repr(entry)]
        for secret in self.secrets:
            found = [text for text in self.told if secret in text]
            require(not found, f"a secret shows in: {found[0].replace(secret, '***')[:200] if found else ''}")


def _accounts(config: Any) -> dict[str, str]:
    """The account a config class's usual fields name."""
    name = getattr(config, "auth_username", "") or getattr(config, "username", "")
    password = getattr(config, "password", None)
    return {name: password.reveal()} if name and isinstance(password, Secret) and password else {}


async def check_connection_type(
    kind: ConnectionType,
    settings: Mapping[str, Any],
    *,
    accounts: Mapping[str, str] | None = None,
    old_settings: Mapping[int, Mapping[str, Any]] | None = None,
    entry: Entry | None = None,
    bad_settings: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Hold a connection type against its contract; NotConformant (an AssertionError) says what is wrong.

    `settings` is `[connection.settings]` as the file has it, of the current version; `old_settings` the same of each
    older version; `bad_settings` have to be refused. `accounts` are the names and passwords the PBX knows, where they
    are not `username` and `password` of the settings. Wants virtual time: pytest-trio's fixture `autojump_clock`.
    Raises RuntimeError without it.

    Checked: `started` is called once; cancelled at every step nothing is left, no task, socket or binding; what it
    raises is of the contract, whatever the PBX answers; Retry-After is kept; a wrong password is not shown again and
    again; unloading ends in time with a PBX that is silent; a restarted PBX is registered with again; nothing shows a
    secret; `migrate`, `unique_id`, `outbound_leg`, `claims` and `credentials` are pure and take any request.
    """
    clock = getattr(trio.lowlevel.current_clock(), "autojump_threshold", float("inf"))
    if clock == float("inf"):
        raise RuntimeError("check_connection_type needs virtual time: ask for the fixture autojump_clock in the test")
    config = settings_of(kind, settings)
    for bad in bad_settings:
        _refused(kind, bad)
    known = _accounts(config) if accounts is None else dict(accounts)
    suite = _Suite(
        kind, config, known, attrs.evolve(entry or Entry("office", kind.kind), type=kind.kind, settings=config)
    )
    suite.shape()
    suite.migrates(settings, old_settings or {})
    registers, challenged = await suite.loads()
    failure = await suite.probe(suite.surroundings())
    require(failure is None, f"probe fails with a PBX that is well: {failure}")
    await suite.cancelled_at_every_step()
    await suite.unloads_in_time()
    await suite.classifies()
    await suite.honours_retry_after()
    if challenged:
        await suite.gives_up_a_wrong_password()
    await suite.survives_weather(registers)
    suite.keeps_secrets()


def _refused(kind: ConnectionType, settings: Mapping[str, Any]) -> None:
    from pathlib import Path

    reader = Structurer(Path())
    made = reader.instance(kind.config_class, dict(settings), "settings")
    require(made is None and reader.problems, f"these settings are taken, and should not be: {sorted(settings)}")
