"""Faults at random moments, and whether everything is well afterwards: `make chaos`.

Random writers ask one or two servers on one database, which are killed and stopped meanwhile, as is
the command that delivers; their receiver refuses, hangs, drips, hangs up and goes down. Then
everything recovers, and is compared: what was answered, the log, what the receiver was told, and
what the API says.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from itertools import count, groupby, pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import Any

import requests

from models import EventType
from tests.stress import options, report
from tests.support.receiver import SECRET, HttpServer
from tests.support.server import BIN, ROOT, Server, create_bot, environment, flask

TIMEOUT = 1
"""How many seconds a server waits for the receiver."""

PATIENCE = 30
"""After how many seconds a server, a write or the command counts as hanging."""

WRITERS = 4
SUBJECTS = ("account", "team", "award")
MODES = ("good", "slow", "refuse", "refuse some", "hang", "drip", "hang up")
THINGS = ("mode", "mode", "mode", "down", "kill", "stop", "deliver")

Body = dict[str, Any]
Key = tuple[Any, ...]
ById = dict[int | None, Any]


def id_of(record: Body | None) -> int | None:
    return None if record is None else int(record["id"])


@dataclass
class Attempt:
    """A delivery as the receiver saw it."""

    event: str
    webhook_id: str
    body: Body
    begun_at: float
    answered_at: float | None = None
    accepted: bool = False

    @property
    def ids(self) -> Key:
        """The ids of what it is about, in the order of `SUBJECTS`."""
        return tuple(id_of(self.body[name]) for name in SUBJECTS if name in self.body)

    @property
    def subject(self) -> Key:
        """What deliveries keep their order about."""
        return self.event, self.ids[0]


class Receiver(HttpServer):
    """A receiver of all events, to which anything may happen."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.mode = "good"
        self.attempts: list[Attempt] = []
        self.lock = Lock()
        self.recovered = Event()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        mode, begun_at = self.mode, time.monotonic()
        attempt = Attempt(request.path.strip("/"), request.headers["webhook-id"], body, begun_at)
        with self.lock:
            self.attempts.append(attempt)
        if mode == "hang":
            self.recovered.wait(3 * TIMEOUT)
        time.sleep(0.05 if mode == "slow" else 0.003)
        attempt.answered_at = time.monotonic()
        if mode == "refuse" or (mode == "refuse some" and (attempt.ids[0] or 0) % 3 == 0):
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

    def recover(self) -> None:
        self.mode = "good"
        self.recovered.set()
        if self.server is None:
            self.__enter__()


class Chaos:
    """One run of servers, a receiver and writers.

    `may_be` tells for each thing what it may be by the answers so far, None if it may not be there;
    `disturbed` when processes were ended that may have been sending.
    """

    def __init__(self, name: str, database: Path, stack: ExitStack) -> None:
        self.name, self.database, self.chance = name, database, Random(name)
        self.auth = create_bot(database, "--all")
        self.settings = {"CALLBACK_TIMEOUT": f"{TIMEOUT}s", "LOG_LEVEL": "WARNING"}
        self.servers = [
            stack.enter_context(Server(database, **self.settings))
            for _ in range(self.chance.choice([1, 2]))
        ]
        self.receiver = stack.enter_context(Receiver())
        self.may_be: defaultdict[Key, set[Any]] = defaultdict(lambda: {None})
        self.teams: list[int] = []
        self.ended_teams: set[int] = set()
        self.disturbed: list[tuple[float, float]] = []
        self.commands: list[subprocess.Popen[str]] = []
        self.over = Event()
        self.figures: Counter[str] = Counter()
        self.faults: list[str] = []

    def run(self) -> None:
        """Let writers write while things happen, recover, and compare."""
        for event in EventType:
            body = {"url": f"{self.receiver.url}/{event.value}", "secret": SECRET}
            url = f"{self.servers[0].url}/callback/{event.value}"
            answer = requests.put(url, json=body, auth=self.auth, timeout=PATIENCE)
            assert answer.status_code == 200, answer.text
        self.receiver.mode = self.chance.choice(MODES)
        with ThreadPoolExecutor(WRITERS) as pool:
            try:
                writers = [pool.submit(Writer(number, self).run) for number in range(WRITERS)]
                for _ in range(self.chance.randrange(4, 10)):
                    time.sleep(self.chance.random() / 2)
                    self._happen()
            finally:
                self.over.set()
                self.receiver.recover()
            for writer in writers:
                writer.result()
        for command in self.commands:
            self._finish(command, {0, 1, -signal.SIGKILL})
        self._deliver("--all")
        self._finish(self.commands[-1], {0})
        self._compare()

    def _happen(self) -> None:
        """Let one thing happen."""
        what = self.chance.choice(THINGS)
        self.figures[what] += 1
        if what == "mode":
            self.receiver.recover()
            self.receiver.recovered.clear()
            self.receiver.mode = self.chance.choice(MODES)
        elif what == "down":
            self.receiver.stop()
        elif what == "deliver":
            if self.commands:
                self._end(self.commands[-1], signal.SIGKILL)
            self._deliver()
        else:
            server = self.chance.choice(self.servers)
            self._end(server.process, signal.SIGKILL if what == "kill" else signal.SIGTERM)
            server.__exit__(None, None, None)
            server.__enter__()

    def _end(self, process: subprocess.Popen[Any], by: signal.Signals) -> None:
        begun_at = time.monotonic()
        if process.poll() is None:
            (os.killpg if by is signal.SIGKILL else os.kill)(process.pid, by)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.faults.append("a server does not end")
        self.disturbed.append((begun_at, time.monotonic()))

    def _deliver(self, *arguments: str) -> None:
        self.commands.append(
            subprocess.Popen(
                [BIN / "flask", "callbacks", "deliver", *arguments],
                cwd=ROOT,
                env=environment(self.database, **self.settings),
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )

    def _finish(self, command: subprocess.Popen[str], statuses: set[int]) -> None:
        try:
            _, errors = command.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(command.pid, signal.SIGKILL)
            command.communicate()
            self.faults.append("`flask callbacks deliver` does not end")
        else:
            self.expect(
                command.returncode in statuses, f"`flask callbacks deliver`: {errors[-500:]}"
            )

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a fault unless something holds."""
        if not holds:
            self.faults.append(otherwise)

    def _compare(self) -> None:
        accounts = {id_of(one): one for one in self._all("/accounts/search")}
        teams = {id_of(one): one for one in self._all("/teams/search")}
        accepted = {one.webhook_id: one for one in self.receiver.attempts if one.accepted}
        told = list(accepted.values())
        self.figures["attempts"] += len(self.receiver.attempts)
        self.figures["deliveries"] += len(told)
        self._compare_answers(accounts, teams)
        self._compare_log(told)
        self._compare_view(told, accounts, teams)
        self._check_order()

    def _all(self, path: str) -> list[Any]:
        url = f"{self.servers[0].url}{path}?per_page=1000"
        data: list[Any] = requests.get(url, timeout=PATIENCE).json()["data"]
        return data

    def _compare_answers(self, accounts: ById, teams: ById) -> None:
        """Every acknowledged write is there."""
        are: dict[Key, Any] = {("team", key): team["name"] for key, team in teams.items()}
        for account_id, account in accounts.items():
            are["account", account_id] = True
            are["team of", account_id] = id_of(account["team"])
            are |= {("holds", account_id, award["id"]): True for award in account["awards"]}
        for key, values in self.may_be.items():
            may_be = set(values)
            if key[0] == "team of" and values & self.ended_teams:
                may_be.add(None)
            self.expect(
                are.get(key) in may_be,
                f"an acknowledged write is lost: {key} is {are.get(key)}, none of {may_be}",
            )

    def _compare_log(self, told: list[Attempt]) -> None:
        """Every event of the log was delivered, in the order of the log for each subject."""
        log, delivered = defaultdict(list), defaultdict(list)
        for attempt in told:
            delivered[attempt.subject].append(attempt.ids)
        shapes = {attempt.event: [n for n in SUBJECTS if n in attempt.body] for attempt in told}
        with closing(sqlite3.connect(self.database)) as connection:
            connection.row_factory = sqlite3.Row
            for event in connection.execute("SELECT * FROM events ORDER BY id"):
                if event["type"] not in {*EventType}:
                    continue  # in the log alone
                shape = shapes.get(event["type"], SUBJECTS)
                ids = tuple(event[f"{name}_id"] for name in shape)
                log[event["type"], ids[0]].append(ids)
        self.figures["events"] += sum(map(len, log.values()))
        for subject in {*log, *delivered}:
            happened, came = log[subject], delivered[subject]
            self.expect(happened == came, f"{subject}: {happened} happened, {came} was delivered")

    def _compare_view(self, told: list[Attempt], accounts: ById, teams: ById) -> None:
        """Whoever knows nothing but the deliveries knows what the API says."""
        team_of: dict[int | None, int | None] = {}
        names: dict[int | None, str] = {}
        known: dict[str, set[int | None]] = {event.value: set() for event in EventType}
        held: Counter[Key] = Counter()
        for attempt in told:
            known[attempt.event].add(attempt.ids[0])
            if attempt.event == "account_team_update":
                team_of[attempt.ids[0]] = attempt.ids[1]
            elif attempt.event in {"award_give", "award_take"}:
                held[attempt.ids] += 1 if attempt.event == "award_give" else -1
        for event in ("team_create", "team_update"):
            names |= {one.ids[0]: one.body["team"]["name"] for one in told if one.event == event}
        pairs = {
            "accounts": (known["account_create"] - known["account_delete"], set(accounts)),
            "teams of accounts": (
                {key: team_of.get(key) for key in accounts},
                {key: id_of(account["team"]) for key, account in accounts.items()},
            ),
            "teams": (
                {key: names[key] for key in known["team_create"] - known["team_delete"]},
                {key: team["name"] for key, team in teams.items()},
            ),
            "awards": (
                {pair: number for pair, number in held.items() if number and pair[0] in accounts},
                {(key, one["id"]): 1 for key in accounts for one in accounts[key]["awards"]},
            ),
        }
        for what, (view, truth) in pairs.items():
            self.expect(view == truth, f"{what}: told {view}, but there are {truth}")

    def _check_order(self) -> None:
        """Nothing was sent before what it waits for, nor while another of its callback was."""
        subjects, callbacks = defaultdict(list), defaultdict(list)
        for attempt in self.receiver.attempts:
            subjects[attempt.subject].append(attempt)
            callbacks[attempt.event].append(attempt)
        for subject, attempts in subjects.items():
            sent = [webhook_id for webhook_id, _ in groupby(one.webhook_id for one in attempts)]
            self.expect(len(sent) == len(set(sent)), f"{subject}: out of order: {sent}")
        for one, other in (pair for attempts in callbacks.values() for pair in pairwise(attempts)):
            over_at = min(one.answered_at or other.begun_at, one.begun_at + TIMEOUT)
            disturbed = any(
                begun_at <= other.begun_at and ended_at >= one.begun_at
                for begun_at, ended_at in self.disturbed
            )
            self.expect(
                disturbed or over_at <= other.begun_at, f"{one.event}: two deliveries at once"
            )


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
            *[self.move] * 8,
            *[self.give, self.take] * 3,
            *[self.rename_team, self.create_account, self.create_team, self.create_award] * 2,
            *[self.delete_account, self.delete_team, self.delete_award],
        )
        while not self.chaos.over.is_set():
            self.chance.choice(steps)()
        self.http.close()

    def write(
        self, method: str, path: str, body: Body | None = None, to: dict[Key, Any] | None = None
    ) -> Any:
        """Write to any server; return what it answers, or None if that is not good.

        What `to` says is so if the write was made: without an answer it is so, or as before.
        """
        chaos, to = self.chaos, to or {}
        before = {key: chaos.may_be[key] for key in to}
        for key, value in to.items():
            chaos.may_be[key] = before[key] | {value}
        url = self.chance.choice(chaos.servers).url + path
        try:
            answer = self.http.request(method, url, json=body, timeout=PATIENCE)
        except requests.Timeout:
            chaos.faults.append(f"no answer to a {method} within {PATIENCE} s")
            return None
        except requests.RequestException:  # the server is not there, or no longer
            chaos.figures["writes without an answer"] += 1
            chaos.over.wait(0.05)
            return None
        good = answer.ok
        chaos.figures[
            "writes acknowledged" if good else f"writes answered {answer.status_code}"
        ] += 1
        chaos.expect(
            answer.status_code < 500 or answer.status_code == 503,
            f"{method} {path}: {answer.status_code} {answer.text:.300}",
        )
        for key, value in to.items():
            chaos.may_be[key] = {value} if good else before[key]
        return (answer.json() if answer.content else True) if good else None

    def move(self) -> None:
        if self.accounts:
            account, team = self.chance.choice(self.accounts), self._any_team()
            to = {("team of", account): team or None}
            self.write("PATCH", f"/account/{account}", {"team": team}, to)

    def create_account(self) -> None:
        account, team = next(self.new_ids), self._any_team()
        body = {"id": account, "name": "x", "discriminator": 0, "team": team}
        to = {("account", account): True, ("team of", account): team or None}
        if self.write("POST", "/accounts/new", body, to):
            self.accounts.append(account)

    def delete_account(self) -> None:
        if len(self.accounts) > 2:
            account = self.chance.choice(self.accounts)
            self.accounts.remove(account)
            kinds = {"account", "team of", "holds"}
            keys = [key for key in list(self.chaos.may_be) if key[0] in kinds and key[1] == account]
            self.write("DELETE", f"/account/{account}", None, dict.fromkeys(keys))

    def create_team(self) -> None:
        name = next(self.names)
        if team := self.write("POST", "/teams/new", {"name": name}):
            self.chaos.may_be["team", team["id"]] = {name}
            self.teams.append(team["id"])
            self.chaos.teams.append(team["id"])

    def rename_team(self) -> None:
        if self.teams:
            team, name = self.chance.choice(self.teams), next(self.names)
            self.write("PATCH", f"/team/{team}", {"name": name}, {("team", team): name})

    def delete_team(self) -> None:
        if len(self.teams) > 2:
            team = self.chance.choice(self.teams)
            self.teams.remove(team)
            self.chaos.teams.remove(team)
            self.chaos.ended_teams.add(team)
            self.write("DELETE", f"/team/{team}", None, {("team", team): None})

    def create_award(self) -> None:
        if self.teams and self.accounts:
            account = self.chance.choice(self.accounts)
            body = {"title": "x", "image_url": "http://x", "team": self.teams[0]}
            if award := self.write("POST", "/awards/new", body | {"accounts": [account]}):
                self.chaos.may_be["holds", account, award["id"]] = {True}
                self.awards.append(award["id"])

    def delete_award(self) -> None:
        if len(self.awards) > 2:
            award = self.chance.choice(self.awards)
            self.awards.remove(award)
            keys = [key for key in list(self.chaos.may_be) if key[0] == "holds" and key[2] == award]
            self.write("DELETE", f"/award/{award}", None, dict.fromkeys(keys))

    def give(self) -> None:
        self._hold("PUT", held=True)

    def take(self) -> None:
        self._hold("DELETE", held=None)

    def _hold(self, method: str, *, held: bool | None) -> None:
        if self.awards and self.accounts:
            account, award = self.chance.choice(self.accounts), self.chance.choice(self.awards)
            to = {("holds", account, award): held}
            self.write(method, f"/account/{account}/award/{award}", None, to)

    def _any_team(self) -> int:
        return self.chance.choice([0, *self.chaos.teams])


def main() -> None:
    given = options("Let faults happen, and compare what is there afterwards.", "runs", 5)
    figures: Counter[str] = Counter()
    faults = []
    with TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.db"
        flask(empty, "db", "upgrade")
        for number in range(given.count):
            seed = given.seed + number
            database = Path(shutil.copy(empty, Path(folder) / f"{seed}.db"))
            with ExitStack() as stack:
                chaos = Chaos(str(seed), database, stack)
                chaos.run()
            figures += chaos.figures
            faults += [f"seed {seed}: {fault:.600}" for fault in chaos.faults]
            print(".F"[bool(chaos.faults)], end="", flush=True)
    print()
    told = ", ".join(f"{count} × {what}" for what, count in sorted(figures.items()))
    report(f"{given.count} runs: {told}", faults)


if __name__ == "__main__":
    main()
