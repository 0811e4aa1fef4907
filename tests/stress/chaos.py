"""Faults at random moments, and whether everything is well afterwards: `make chaos`.

Random writers ask two servers on one database, which are killed and stopped meanwhile, as is the
command that delivers; their receiver refuses, hangs, drips, hangs up and goes down. With
`--postgresql` the servers have two workers each and one proxy in front, and PostgreSQL is restarted
too. Then everything recovers, and the responses, the log, what the receiver was told and what the
API says are compared. Few things are changed often, so that whatever is lost or out of order shows
at the next change.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from itertools import count, groupby
from random import Random
from socket import MSG_DONTWAIT, MSG_PEEK, socket
from threading import Event, Lock
from typing import Any

import requests
from sqlalchemy import RowMapping, text

from models import EventType
from tests.stress import options, report
from tests.support.community import Auth
from tests.support.databases import (
    POSTGRESQL,
    Cluster,
    Database,
    NewDatabase,
    connected,
    new_file,
)
from tests.support.proxies import Pair
from tests.support.receiver import SECRET, HttpServer
from tests.support.server import BIN, ROOT, Server, create_bot, environment, flask

TIMEOUT = 1
"""How many seconds a server waits for the receiver."""

PATIENCE = 30
"""After how many seconds a server, a write or the command counts as hanging."""

PAUSE = 0.15
"""How many seconds pass at most from one thing that happens to the next."""

WRITE = 0.01
"""How many seconds a write takes, about."""

DYING = 0.5
"""For how many seconds a killed process may still seem to wait for an answer."""

BY_PROXY = {502, 503}
"""The statuses of a proxy that lost the server that it asked, or knows of none that is well."""

SERVERS = 2
WRITERS = 4
FEW, MANY = 2, 4
"""How many accounts, teams and awards a writer keeps at least, and at most."""

SUBJECTS = ("account", "team", "award")
MODES = ("good", "slow", "refuse", "refuse some", "hang", "drip", "hang up")
THINGS = (*MODES, "refuse some", "down", "deliver", *["register"] * 3, *["crash"] * 30)
"""What happens in each run, in any order. In a crash the worker of a server, or of each, is
killed while a write is under way; there is another one at once."""

Body = dict[str, Any]
Key = tuple[Any, ...]
History = defaultdict[Key, list[Any]]
"""What each thing was, one after the other: at first None, that is, not there."""


def id_of(record: Body | None) -> int | None:
    return None if record is None else int(record["id"])


@dataclass
class Attempt:
    """A delivery as the receiver saw it."""

    event: str
    webhook_id: str
    body: Body
    sender: socket
    begun_at: float
    accepted: bool = False

    @property
    def ids(self) -> Key:
        """The ids of what it is about, in the order of `SUBJECTS`."""
        return tuple(id_of(self.body[name]) for name in SUBJECTS if name in self.body)

    @property
    def subject(self) -> Key:
        """What deliveries keep their order about."""
        return self.event, self.ids[0]

    def effects(self, things: Iterable[Key]) -> dict[Key, Any]:
        """Return what is so since the event, for what it changes among all things."""
        subject, *others = self.ids
        match self.event:
            case EventType.ACCOUNT_CREATE:
                effects: dict[Key, Any] = {("account", subject): True}
            case EventType.ACCOUNT_TEAM_UPDATE:
                effects = {("team of", subject): others[0]}
            case EventType.ACCOUNT_DELETE:
                effects = dict.fromkeys(of_account(subject, things))
            case EventType.TEAM_CREATE | EventType.TEAM_UPDATE:
                effects = {("team", subject): self.body["team"]["name"]}
            case EventType.TEAM_DELETE:
                effects = {("team", subject): None}
            case EventType.AWARD_GIVE | EventType.AWARD_TAKE:
                held = True if self.event == EventType.AWARD_GIVE else None
                effects = {("holds", subject, others[0]): held}
            case _:
                effects = {}
        return effects


def is_waiting(sender: socket) -> bool:
    """Return whether a sender holds its connection open: it does until the answer is in."""
    try:
        return bool(sender.recv(1, MSG_PEEK | MSG_DONTWAIT))
    except BlockingIOError:
        return True
    except OSError:  # closed on our side
        return False


def of_account(account: int | None, things: Iterable[Key]) -> list[Key]:
    """Return those of the things that there are no longer once an account is deleted."""
    return [key for key in list(things) if key[0] != "team" and key[1] == account]


class Receiver(HttpServer):
    """A receiver of all events, to which anything may happen.

    Attempts are kept in the order in which they came. The sender of one that began before
    `settled_at` may be dead, though it seems to wait for the answer.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.mode = "good"
        self.attempts: list[Attempt] = []
        self.last: dict[str, Attempt] = {}
        self.faults: list[str] = []
        self.settled_at = 0.0
        self.lock = Lock()
        self.recovered = Event()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        event, sender, mode = request.path.strip("/"), request.connection, self.mode
        with self.lock:
            last = self.last.get(event)
            is_second = last and last.begun_at > self.settled_at and is_waiting(last.sender)
            if not is_waiting(sender):
                return  # it is dead, maybe in the middle of the body
            webhook_id = request.headers["webhook-id"]
            attempt = Attempt(event, webhook_id, json.loads(raw), sender, time.monotonic())
            if is_second:
                self.faults.append(f"{event}: two deliveries at once")
            self.last[event] = attempt
            self.attempts.append(attempt)
        if mode == "hang":
            self.recovered.wait(3 * TIMEOUT)
        time.sleep(0.05 if mode == "slow" else 0.003)
        if mode == "refuse" or (mode == "refuse some" and (attempt.ids[0] or 0) % 2 == 0):
            request.send_error(500)
        elif mode == "drip":
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
                request.wfile.write(bytes([byte]))
                self.recovered.wait(TIMEOUT / 10)
            attempt.accepted = True  # it recovered in time, or nobody waits any more
        elif mode not in {"hang", "hang up"}:
            attempt.accepted = True
            request.send_response(204)
            request.end_headers()

    def change(self, mode: str) -> None:
        """Be in another mode from now on, and there again."""
        self.recovered.set()
        self.mode = mode
        if mode != "good":
            self.recovered.clear()
        if self.server is None:
            self.__enter__()


class Chaos:
    """One run of servers, a receiver and writers; `acknowledged` is what good answers said."""

    def __init__(
        self, name: str, database: Database, auth: Auth, cluster: Cluster | None, stack: ExitStack
    ) -> None:
        self.name, self.database, self.auth, self.chance = name, database, auth, Random(name)
        self.cluster = cluster
        self.asked_server = 0
        self.settings = {"CALLBACK_TIMEOUT": f"{TIMEOUT}s", "LOG_LEVEL": "WARNING"}
        if cluster:
            with connected(database) as connection:
                connection.exec_driver_sql("CHECKPOINT")  # or a crash sets a copy's sequences back
            pair = stack.enter_context(Pair(database, **self.settings))
            self.servers, self.urls = pair.servers, [pair.url] * SERVERS
        else:
            self.servers = [Server(database, **self.settings) for _ in range(SERVERS)]
            self.urls = [server.url for server in self.servers]
            with ThreadPoolExecutor() as pool:
                list(pool.map(stack.enter_context, self.servers))
        self.receiver = stack.enter_context(Receiver())
        self.acknowledged: History = defaultdict(list)
        self.teams: list[int] = []
        self.commands: list[subprocess.Popen[str]] = []
        self.asked, self.over = Event(), Event()
        self.figures: Counter[str] = Counter()
        self.faults = self.receiver.faults

    def run(self) -> None:
        """Let writers write while things happen, recover, and compare."""
        self._register()
        with ThreadPoolExecutor(WRITERS) as pool:
            try:
                writers = [pool.submit(Writer(number, self).run) for number in range(WRITERS)]
                things = [*THINGS, self.chance.choice(["stop", "kill"])]
                if self.cluster:
                    things += ["restart the database"] * 2
                for what in self.chance.sample(things, len(things)):
                    time.sleep(self.chance.random() * PAUSE)
                    self.figures[what] += 1
                    self._happen(what)
            finally:
                self.over.set()
                self.receiver.change("good")
            for writer in writers:
                writer.result()
        self._deliver("--all")
        for command in self.commands[:-1]:
            self._finish(command, {0, 1, -signal.SIGKILL})
        self._finish(self.commands[-1], {0})
        self._compare()

    def _happen(self, what: str) -> None:
        """Let one thing happen."""
        if what in MODES:
            self.receiver.change(what)
        elif what == "down":
            self.receiver.stop()
        elif what == "register":
            self._register()
        elif what == "deliver":
            self._deliver()
        elif what == "crash":
            self.asked.clear()
            self.asked.wait(PATIENCE)
            time.sleep(self.chance.random() * WRITE)
            for server in self.chance.choice([self.servers, [self.servers[self.asked_server]]]):
                self._kill(*server.workers)
        elif what == "restart the database":
            assert self.cluster
            self.receiver.settled_at = time.monotonic() + DYING
            self.cluster.stop()
            self.cluster.start()
        else:
            server = self.chance.choice(self.servers)
            if what == "kill":
                self._kill(-server.process.pid)
            else:
                server.process.terminate()
                try:
                    server.process.wait(PATIENCE / 2)
                except subprocess.TimeoutExpired:
                    self.faults.append("a server does not end")
            server.__exit__(None, None, None)
            server.__enter__()

    def _register(self) -> None:
        """Register for all events, which also ends all pauses."""
        for event in EventType:
            body = {"url": f"{self.receiver.url}/{event.value}", "secret": SECRET}
            url = f"{self.chance.choice(self.urls)}/callback/{event.value}"
            status = 502
            while status in BY_PROXY:
                answer = requests.put(url, json=body, auth=self.auth, timeout=PATIENCE)
                status = answer.status_code
            assert status == 200, answer.text

    def _kill(self, *pids: int) -> None:
        """Kill processes; a negative number is that of a group."""
        self.receiver.settled_at = time.monotonic() + DYING
        for pid in pids:
            with suppress(ProcessLookupError):  # a worker that was killed before
                os.kill(pid, signal.SIGKILL)

    def _deliver(self, *arguments: str) -> None:
        """Let the command deliver in the place of the one that may still run."""
        if self.commands and self.commands[-1].poll() is None:
            self._kill(self.commands[-1].pid)
        self.commands.append(
            subprocess.Popen(
                [BIN / "flask", "callbacks", "deliver", *arguments],
                cwd=ROOT,
                env=environment(self.database, **self.settings),
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def _finish(self, command: subprocess.Popen[str], statuses: set[int]) -> None:
        try:
            _, errors = command.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            command.kill()
            command.communicate()
            self.faults.append("`flask callbacks deliver` does not end")
        else:
            fault = f"`flask callbacks deliver`: {errors[-500:]}"
            self.expect(command.returncode in statuses, fault)

    def expect(self, holds: object, otherwise: str) -> None:
        """Note a fault unless something holds."""
        if not holds:
            self.faults.append(otherwise)

    def _compare(self) -> None:
        """Note where what was answered, what was told, and what the API says differ."""
        self._check_order()
        are, history = self._all_there_is(), self._history()
        for key in {*are, *history}:
            is_now, was = are.get(key), history[key]
            self.expect(is_now == was[-1], f"{key} is {is_now}, but became {was} by the log")
        for key, values in self.acknowledged.items():
            told = iter(history[key])
            found = all(value in told for value, _ in groupby(values))
            self.expect(found, f"{key} became {values} by the answers, but {history[key]}")

    def _all_there_is(self) -> dict[Key, Any]:
        """Return what the API says."""
        where = f"{self.urls[0]}/%s/search?per_page=1000"
        accounts, teams = (
            requests.get(where % what, timeout=PATIENCE).json()["data"]
            for what in ("accounts", "teams")
        )
        are: dict[Key, Any] = {("team", id_of(team)): team["name"] for team in teams}
        for account in accounts:
            account_id = id_of(account)
            are |= {("account", account_id): True, ("team of", account_id): id_of(account["team"])}
            are |= {("holds", account_id, id_of(award)): True for award in account["awards"]}
        return are

    def _history(self) -> History:
        """Return what the receiver was told, in the order of the log.

        Note what was not delivered as it happened, and what does not follow from what was before.
        """
        history: History = defaultdict(lambda: [None])
        delivered: defaultdict[Key, deque[Attempt]] = defaultdict(deque)
        accepted = {one.webhook_id: one for one in self.receiver.attempts if one.accepted}
        for attempt in accepted.values():
            delivered[attempt.subject].append(attempt)
        shapes = {one.event: [n for n in SUBJECTS if n in one.body] for one in accepted.values()}
        for row in self._log():
            ids = tuple(row[f"{name}_id"] for name in shapes.get(row["type"], SUBJECTS))
            waiting = delivered[row["type"], ids[0]]
            came = waiting.popleft() if waiting else None
            if came is None or came.ids != ids:
                told = came and came.ids
                self.faults.append(f"{row['type']} of {ids} happened, {told} was delivered")
                continue
            effects = came.effects(history)
            changed = not effects or any(history[key][-1] != effects[key] for key in effects)
            if came.event == EventType.ACCOUNT_TEAM_UPDATE:
                changed &= history["team of", ids[0]][-1] == row["left_team_id"]
            before = {key: history[key] for key in effects}
            self.expect(changed, f"{dict(row)} cannot have followed {before}")
            for key, value in effects.items():
                history[key].append(value)
        for subject, rest in delivered.items():
            self.expect(not rest, f"{subject}: {len(rest)} were delivered that did not happen")
        self.figures["attempts"] += len(self.receiver.attempts)
        self.figures["deliveries"] += len(accepted)
        return history

    def _check_order(self) -> None:
        """Note what was sent before what it waits for.

        PostgreSQL may forget in a crash that something was accepted, which is then sent again.
        """
        sent, accepted = defaultdict(list), set()
        for attempt in self.receiver.attempts:
            if not self.cluster or attempt.webhook_id not in accepted:
                sent[attempt.subject].append(attempt.webhook_id)
            if attempt.accepted:
                accepted.add(attempt.webhook_id)
        for subject, ids in sent.items():
            in_turn = [webhook_id for webhook_id, _ in groupby(ids)]
            self.expect(len(in_turn) == len(set(in_turn)), f"{subject}: out of order: {in_turn}")

    def _log(self) -> list[RowMapping]:
        """Return the log of what callbacks are told of."""
        with connected(self.database) as connection:
            rows = connection.execute(text("SELECT * FROM events ORDER BY id")).mappings().all()
        return [row for row in rows if row["type"] in set(EventType)]


class Writer:
    """Changes accounts, teams and awards of its own, but moves accounts into anybody's teams."""

    def __init__(self, number: int, chaos: Chaos) -> None:
        self.chaos, self.chance = chaos, Random(f"{chaos.name} {number}")
        self.new_ids = count(number * 10_000 + 1)
        self.names = (f"{number} {turn}" for turn in count())
        self.accounts: list[int] = []
        self.teams: list[int] = []
        self.awards: list[int] = []
        self.http = requests.Session()
        self.http.auth = chaos.auth
        self.http.trust_env = False

    def run(self) -> None:
        """Write until the run is over."""
        steps = (
            *[self.move, self.give_or_take] * 8,
            *[self.rename_team, self.create_account, self.create_team, self.create_award],
            *[self.delete_account, self.delete_team, self.delete_award],
        )
        while not self.chaos.over.is_set():
            self.chance.choice(steps)()
        self.http.close()

    def write(
        self, method: str, path: str, body: Body | None = None, to: dict[Key, Any] | None = None
    ) -> Any:
        """Write to any server; return what it answers, or None if that is not good.

        What `to` says is so if it is: without an answer the write may have been made, or not.
        """
        chaos = self.chaos
        chaos.asked_server = self.chance.randrange(SERVERS)
        url = chaos.urls[chaos.asked_server] + path
        chaos.asked.set()
        try:
            answer = self.http.request(method, url, json=body, timeout=PATIENCE)
        except requests.Timeout:
            chaos.faults.append(f"no answer to a {method} within {PATIENCE} s")
            return None
        except requests.RequestException:  # the server is not there, or no longer
            chaos.figures["writes without an answer"] += 1
            chaos.over.wait(0.01)
            return None
        if not answer.ok:
            chaos.figures[f"writes answered {answer.status_code}"] += 1
            fault = f"{method} {path}: {answer.status_code} {answer.text:.300}"
            known = BY_PROXY if chaos.cluster else {503}
            chaos.expect(answer.status_code < 500 or answer.status_code in known, fault)
            return None
        chaos.figures["writes acknowledged"] += 1
        for key, value in (to or {}).items():
            chaos.acknowledged[key].append(value)
        return answer.json() if answer.content else True

    def move(self) -> None:
        if self.accounts:
            account, team = self.chance.choice(self.accounts), self._any_team()
            to = {("team of", account): team or None}
            self.write("PATCH", f"/account/{account}", {"team": team}, to)

    def create_account(self) -> None:
        if len(self.accounts) < MANY:
            account, team = next(self.new_ids), self._any_team()
            body = {"id": account, "name": "x", "discriminator": 0, "team": team}
            to = {("account", account): True, ("team of", account): team or None}
            if self.write("POST", "/accounts/new", body, to):
                self.accounts.append(account)

    def delete_account(self) -> None:
        if len(self.accounts) > FEW:
            account = self.chance.choice(self.accounts)
            self.accounts.remove(account)
            gone = of_account(account, self.chaos.acknowledged)
            self.write("DELETE", f"/account/{account}", None, dict.fromkeys(gone))

    def create_team(self) -> None:
        if len(self.teams) < MANY:
            name = next(self.names)
            if team := self.write("POST", "/teams/new", {"name": name}):
                self.chaos.acknowledged["team", team["id"]].append(name)
                self.teams.append(team["id"])
                self.chaos.teams.append(team["id"])

    def rename_team(self) -> None:
        if self.teams:
            team, name = self.chance.choice(self.teams), next(self.names)
            self.write("PATCH", f"/team/{team}", {"name": name}, {("team", team): name})

    def delete_team(self) -> None:
        if len(self.teams) > FEW:
            team = self.chance.choice(self.teams)
            self.teams.remove(team)
            self.chaos.teams.remove(team)
            self.write("DELETE", f"/team/{team}", None, {("team", team): None})

    def create_award(self) -> None:
        if self.teams and self.accounts and len(self.awards) < MANY:
            account = self.chance.choice(self.accounts)
            body = {"title": "x", "image_url": "http://x", "team": self.teams[0]}
            if award := self.write("POST", "/awards/new", body | {"accounts": [account]}):
                self.chaos.acknowledged["holds", account, award["id"]].append(True)
                self.awards.append(award["id"])

    def delete_award(self) -> None:
        if len(self.awards) > FEW:
            award = self.chance.choice(self.awards)
            self.awards.remove(award)
            gone = [key for key in list(self.chaos.acknowledged) if key[0::2] == ("holds", award)]
            self.write("DELETE", f"/award/{award}", None, dict.fromkeys(gone))

    def give_or_take(self) -> None:
        if self.awards and self.accounts:
            account, award = self.chance.choice(self.accounts), self.chance.choice(self.awards)
            key: Key = "holds", account, award
            held = self.chaos.acknowledged[key][-1:] == [True]
            takes = held and self.chance.random() < 0.8  # it may not be held any more
            method, to = ("DELETE", None) if takes else ("PUT", True)
            self.write(method, f"/account/{account}/award/{award}", None, {key: to})

    def _any_team(self) -> int:
        return self.chance.choice([0, *self.chaos.teams])


def main() -> None:
    purpose = "Let faults happen, and compare what is there afterwards."
    given = options(purpose, "runs", 5, "postgresql")
    figures: Counter[str] = Counter()
    faults = []
    with ExitStack() as stack:
        cluster: Cluster | None = None
        new: NewDatabase = new_file
        if given.postgresql:
            if not (POSTGRESQL and shutil.which("caddy")):
                sys.exit("This needs PostgreSQL and Caddy: `apt install postgresql caddy`.")
            cluster = Cluster()
            stack.callback(cluster.remove)
            new = cluster.new
        empty = stack.enter_context(new())
        flask(empty, "db", "upgrade")
        auth = create_bot(empty, "--all")
        for number in range(given.count):
            seed = given.seed + number
            with new(empty) as database, ExitStack() as run:
                chaos = Chaos(str(seed), database, auth, cluster, run)
                chaos.run()
            figures += chaos.figures
            faults += [f"seed {seed}: {fault:.600}" for fault in chaos.faults]
            print(".F"[bool(chaos.faults)], end="", flush=True)
    print()
    told = ", ".join(f"{count} × {what}" for what, count in sorted(figures.items()))
    report(f"{given.count} runs: {told}", faults)


if __name__ == "__main__":
    main()
