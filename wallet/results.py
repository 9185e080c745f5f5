"""Result files: what a provider says became of payouts, looked at first and applied after.

The file is kept byte by byte. A plan says of each row what would come of it and changes nothing;
applying takes each row in a transaction of its own through ``wallet.settlement`` and notes it, so
that a file that is applied twice, by two people at once, or again after half of it, changes nothing
twice. What the file does not say for certain stays pending.

Locks, for each row: the person, the payout, the wallet.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from smsactivator.common.errors import Invalid, NotFound, Refused
from smsactivator.common.seen import Shown, refuse_unless_shown, steps
from wallet import addresses, payouts, resultsheets, settlement
from wallet.deciding import same_request
from wallet.limits import lock, require
from wallet.models import Payout, PayoutMethod, ResultFile, ResultLine
from wallet.resultsheets import Cells
from wallet.settlement import SETTLE

LONGEST_NAME = 255
LISTED_OTHERS = 5  # payouts that a remark names
# Python's \d is any digit of Unicode, and other programs read those otherwise.
REFERENCE = re.compile(r"\bPO-([0-9]{6,18})\b", re.IGNORECASE)
FIGURE = re.compile(r"[0-9]{1,15}(\.[0-9]{1,18})?")

PAID_WORDS = {
    *("paid", "complete", "completed", "confirmed", "done", "finished"),
    *("succeeded", "success", "successful"),
}
FAILED_WORDS = {
    *("failed", "failure", "fail", "error", "rejected", "declined"),
    *("cancelled", "canceled", "expired"),
}
# On its way, whatever it is called: "sent" is not yet confirmed.
PENDING_WORDS = {
    *("pending", "processing", "in progress", "new", "created", "waiting", "queued", "sent"),
    *("submitted", "confirming", "ready to process", ""),
}

State = Payout.State
Outcome = ResultLine.Outcome


class ResultFileRefused(Invalid):
    """The file is empty, or too large."""

    code = "file_refused"


class ResultFileUnknown(NotFound):
    """There is no such result file."""

    code = "unknown_result_file"


@dataclass(frozen=True, slots=True)
class Earlier:
    """What files and people said of payouts before, by the payouts' ids."""

    said: set[tuple[int, str, int]]  # the digest of a row that was applied, and its attempt
    paid: set[tuple[int, str]]  # the transaction that a payout was once paid by, at any attempt


# Makes a row of a verdict, and why.
Making = Callable[..., "Row"]


class Verdict(Enum):
    """What comes of a row."""

    REFUSED = "Refused"
    PAY = "Will be paid"
    FAIL = "Will fail"
    ALREADY = "Already so"
    PENDING = "Stays pending"
    DONE = "Applied"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, and what comes of it."""

    number: int
    cells: Cells
    verdict: Verdict
    why: str = ""
    payout: Payout | None = None
    transaction_hash: str = ""
    fee: Decimal | None = None
    fee_currency: str = ""
    problem: str = ""
    line: ResultLine | None = None
    # References of other customers' payouts, outside the file, that its transaction is on.
    others: tuple[str, ...] = ()

    @property
    def again(self) -> bool:
        """Whether it pays a payout that was sent before: the report may be of that attempt."""
        return self.verdict is Verdict.PAY and self.payout is not None and self.payout.attempt > 1

    @property
    def remark(self) -> str:
        """What to look at before it is applied, in words."""
        found = []
        if self.payout is not None and self.again:
            found.append(settlement.of_which_attempt(self.payout, "report"))
        if self.others:
            found.append(_shared(self.others))
        return "; ".join(found)

    @property
    def amount(self) -> Decimal | None:
        """USD, of the payout that the row names."""
        return self.payout.amount if self.payout else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a file would do now; refused rows come first."""

    rows: list[Row]
    ignored: tuple[str, ...]  # columns that were not read

    @property
    def totals(self) -> list[tuple[Verdict, int, Decimal]]:
        """How many rows there are of each verdict, and USD."""
        return [
            (
                verdict,
                sum(row.verdict is verdict for row in self.rows),
                sum(
                    (row.amount or Decimal(0) for row in self.rows if row.verdict is verdict),
                    Decimal(0),
                ),
            )
            for verdict in Verdict
        ]

    @property
    def shared(self) -> int:
        """How many rows have a transaction that other customers' payouts have too."""
        return sum(bool(row.others) for row in self.rows)

    @property
    def again(self) -> int:
        """How many rows pay what was sent before."""
        return sum(row.again for row in self.rows)

    @property
    def to_apply(self) -> list[Row]:
        """The rows that applying would write."""
        return [
            row for row in self.rows if row.verdict in {Verdict.PAY, Verdict.FAIL, Verdict.ALREADY}
        ]


def upload(person: Any, *, name: str, content: bytes, key: UUID) -> ResultFile:
    """Keep a result file; the same bytes again are the file that was uploaded before.

    Nothing of it is applied. Locks the person. Raises PermissionDenied, ResultFileRefused,
    SheetRefused for one that cannot be read, RequestConflict.
    """
    require(person, SETTLE)
    if not content:
        raise ResultFileRefused("The file is empty.")
    if len(content) > resultsheets.MOST_BYTES:
        raise ResultFileRefused(
            f"The file has more than {resultsheets.MOST_BYTES} bytes: split it."
        )
    resultsheets.read(content)
    sha256 = hashlib.sha256(content).hexdigest()
    with transaction.atomic():
        lock(person)
        if made := same_request(ResultFile, key, sha256=sha256):
            return made
        file, _ = ResultFile.objects.get_or_create(
            sha256=sha256,
            defaults={
                "name": _shown(name),
                "content": content,
                "size": len(content),
                "uploaded_by": person,
                "uploaded_at": timezone.now(),
                "request_key": key,
            },
        )
        return file


def plan(file: ResultFile) -> Plan:
    """What applying the file would do now, row by row. Changes nothing."""
    sheet = resultsheets.read(bytes(file.content))
    lines = {line.row: line for line in file.lines.select_related("applied_by")}
    named = {number: _named(cells) for number, cells in sheet.rows}
    wanted = {pk for pk in named.values() if pk is not None}
    found = Payout.objects.select_related("method").in_bulk(wanted)
    times = Counter(named.values())
    earlier = _earlier(wanted)
    rows: list[Row] = []
    for number, cells in sheet.rows:
        pk = named[number]
        payout = found.get(pk) if pk is not None else None
        if line := lines.get(number):
            outcome = Outcome(line.outcome).label
            rows.append(Row(number, cells, Verdict.DONE, outcome, payout, line=line))
        elif pk is not None and times[pk] > 1:
            others = ", ".join(str(n) for n, other in named.items() if other == pk and n != number)
            why = f"the file names this payout more than once: also in row {others}"
            rows.append(Row(number, cells, Verdict.REFUSED, why, payout))
        else:
            rows.append(_judge(number, cells, payout, earlier))
    return Plan(_in_order(_compared(rows, wanted)), sheet.ignored)


def steps_of(file: ResultFile) -> int:
    """What the plan of a file shows of its payouts, as ``smsactivator.common.seen`` counts."""
    return steps(_payouts_of(plan(file)))


def _payouts_of(made: Plan) -> Shown:
    return Payout, {row.payout.pk for row in made.rows if row.payout is not None}


def apply(person: Any, result_file_id: int, *, seen: int | None = None) -> ResultFile:
    """Do what the plan says, each row in a transaction of its own, judged again under its lock.

    ``seen`` is of the payouts that the file names. A row of which something else would come by now
    is left: the next plan says what. Rows that wait or are refused can be applied later. Raises
    PermissionDenied, ResultFileUnknown, Outdated.
    """
    require(person, SETTLE)
    file = ResultFile.objects.filter(pk=result_file_id).first()
    if file is None:
        raise ResultFileUnknown(f"There is no result file {result_file_id}.")
    made = plan(file)
    refuse_unless_shown(file, seen, _payouts_of(made))
    for row in sorted(made.to_apply, key=lambda row: row.number):
        try:
            _apply(person, file, row)
        except Refused:
            # Somebody was faster, or two rows are one transaction: the next plan says why.
            continue
    return file


def _apply(person: Any, file: ResultFile, row: Row) -> None:
    if row.payout is None:
        return
    with transaction.atomic():
        lock(person)
        payout = payouts.lock_payout(row.payout.pk)
        if file.lines.filter(row=row.number).exists():
            return
        now = _judge(row.number, row.cells, payout, _earlier({payout.pk}))
        if (now.verdict, payout.attempt) != (row.verdict, row.payout.attempt):
            return
        detail = payout.transaction_hash or payout.problem
        if now.verdict is Verdict.PAY:
            outcome, detail = Outcome.PAID, now.transaction_hash
            settlement.mark_paid(
                person,
                payout.pk,
                transaction_hash=now.transaction_hash,
                fee=now.fee,
                fee_currency=now.fee_currency,
                reason=f"{file}, row {row.number}",
                # Whoever applies the file was told of it by the plan's remark.
                shared=True,
            )
        elif now.verdict is Verdict.FAIL:
            outcome, detail = Outcome.FAILED, now.problem
            settlement.mark_failed(person, payout.pk, problem=now.problem)
        elif now.verdict is Verdict.ALREADY:
            outcome = Outcome.ALREADY
        else:
            return
        ResultLine.objects.create(
            file=file,
            row=row.number,
            payout=payout,
            attempt=payout.attempt,
            digest=_digest(row.cells),
            outcome=outcome,
            detail=detail,
            applied_by=person,
            applied_at=timezone.now(),
        )


# --- what a row says ---


def _named(cells: Cells) -> int | None:
    """The id of the payout that a row names, if it names exactly one."""
    found = {int(digits) for digits in REFERENCE.findall(cells["reference"])}
    return found.pop() if len(found) == 1 else None


def _judge(number: int, cells: Cells, payout: Payout | None, earlier: Earlier) -> Row:
    """What comes of a row that stands alone in its file, by the payout as it is now."""

    def row(verdict: Verdict, why: str = "", **found: Any) -> Row:
        return Row(number, cells, verdict, why, payout, **found)

    if payout is None:
        if _named(cells) is None:
            return row(Verdict.REFUSED, "it names no payout of ours, as PO-000123")
        return row(Verdict.REFUSED, "there is no such payout")
    if differs := _differs(cells, payout):
        return row(Verdict.REFUSED, differs)
    word = " ".join(cells["status"].lower().replace("_", " ").split())
    if word in PENDING_WORDS:
        return row(Verdict.PENDING, f"the file says “{word or 'nothing'}”")
    if word not in PAID_WORDS | FAILED_WORDS:
        return row(Verdict.PENDING, f"“{word}” is no status that we know")
    said_before = any(
        (payout.pk, _digest(cells), attempt) in earlier.said for attempt in range(1, payout.attempt)
    )
    if said_before:
        return row(
            Verdict.REFUSED,
            f"a file said exactly this of an earlier attempt, and this is attempt {payout.attempt}:"
            " if it is of this one, settle it by hand",
        )
    if word in PAID_WORDS:
        return _paid(row, cells, payout, earlier)
    return _failed(row, cells, payout, word)


def _paid(row: Making, cells: Cells, payout: Payout, earlier: Earlier) -> Row:
    try:
        hash_ = addresses.check_hash(payout.method, cells["transaction_hash"])
        fee, currency = settlement.check_fee(_fee(cells["fee"]), cells["fee_currency"])
    except (addresses.HashRefused, settlement.FeeRefused) as refusal:
        return row(Verdict.REFUSED, refusal.message)
    if payout.state == State.PAID:
        if payout.transaction_hash == hash_:
            return row(Verdict.ALREADY, "it is paid by this transaction")
        return row(
            Verdict.REFUSED,
            f"it was paid by another transaction, {payout.transaction_hash}: ask the provider",
        )
    if payout.state not in {State.EXPORTED, State.SUBMITTED, State.FAILED}:
        return row(Verdict.REFUSED, _not_on_its_way(payout))
    if (payout.pk, hash_) in earlier.paid:
        # Reports repeat what they said, and know nothing of what came back.
        return row(
            Verdict.REFUSED,
            "it was paid by this transaction and came back since: settle it by hand",
        )
    why = "it had failed before" if payout.state == State.FAILED else ""
    return row(Verdict.PAY, why, transaction_hash=hash_, fee=fee, fee_currency=currency)


def _failed(row: Making, cells: Cells, payout: Payout, word: str) -> Row:
    problem = (cells["reason"] or f"The provider says “{word}”")[:500]
    if payout.state == State.FAILED:
        return row(Verdict.ALREADY, "it has failed")
    if payout.state == State.PAID:
        return row(
            Verdict.REFUSED,
            f"it was paid by transaction {payout.transaction_hash}: if it came back, settle it by "
            "hand",
        )
    if payout.state not in {State.EXPORTED, State.SUBMITTED}:
        return row(Verdict.REFUSED, _not_on_its_way(payout))
    if payout.attempt > 1:
        # No report says which attempt failed, and the one before did.
        return row(
            Verdict.REFUSED,
            f"this is attempt {payout.attempt}, and the file may mean an earlier one: if this one "
            "failed, settle it by hand",
        )
    if payout.state == State.EXPORTED:
        return row(
            Verdict.REFUSED,
            "its batch was not handed over: note that it was (“Submit”), and apply this again",
        )
    return row(Verdict.FAIL, problem, problem=problem)


def _not_on_its_way(payout: Payout) -> str:
    return f"it is not on its way: it is “{payout.get_state_display()}”"


def _differs(cells: Cells, payout: Payout) -> str:
    """What in the row is not the payout's, in words, or ""."""
    amount = _figure(cells["amount"])
    if amount is None or amount != payout.amount:
        return f"its amount is {payout.amount:.2f}, and the file says “{cells['amount']}”"
    method = payout.method
    names = {method.currency, method.code, method.coinspaid_code, method.inqud_code} - {""}
    if cells["currency"].upper() not in names:
        return f"it is in {method}, and the file says “{cells['currency']}”"
    if cells["network"] and not addresses.is_network(method, cells["network"]):
        return f"it is in {method}, and the file says the network “{cells['network']}”"
    theirs, ours = cells["address"], payout.address
    if method.address_format == PayoutMethod.AddressFormat.EVM:
        # Capitals are a checksum there, which not everybody writes.
        theirs, ours = theirs.lower(), ours.lower()
    return "" if theirs == ours else "its address is another one than the file says"


def _figure(text: str) -> Decimal | None:
    return Decimal(text) if FIGURE.fullmatch(text) else None


def _fee(text: str) -> Decimal | None:
    """The fee, if the row has one. Raises FeeRefused."""
    fee = _figure(text)
    if text and fee is None:
        raise settlement.FeeRefused(f"its fee is no amount: “{text}”")
    return fee


def _digest(cells: Cells) -> str:
    """Of what a row says of its payout, whatever file says it."""
    said = [cells[name].lower() for name in ("status", "transaction_hash", "reason")]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _earlier(of: Collection[int]) -> Earlier:
    """What is known of these payouts from before."""
    lines = ResultLine.objects.filter(payout__in=of)
    paid = Payout.history.filter(id__in=of, state=State.PAID)
    return Earlier(
        said=set(lines.values_list("payout", "digest", "attempt")),
        paid=set(paid.values_list("id", "transaction_hash")),
    )


def _compared(rows: Sequence[Row], named: Collection[int]) -> list[Row]:
    """Refuse rows whose transaction has paid another payout to the same address; note on those that
    are paid which other customers' payouts, that the file does not name, have their transaction.
    """
    hashes = {row.transaction_hash for row in rows if row.transaction_hash}
    known = list(Payout.objects.filter(transaction_hash__in=hashes).order_by("pk"))
    used = {_payment(paid.transaction_hash, paid): paid.reference for paid in known}
    outside: dict[str, list[Payout]] = defaultdict(list)
    for paid in known:
        if paid.pk not in named:
            outside[paid.transaction_hash].append(paid)
    judged: list[Row] = []
    for row in rows:
        if row.verdict is not Verdict.PAY or row.payout is None:
            judged.append(row)
            continue
        payment = _payment(row.transaction_hash, row.payout)
        first = used.setdefault(payment, row.payout.reference)
        if first != row.payout.reference:
            why = f"{first} to the same address has this transaction"
            judged.append(replace(row, verdict=Verdict.REFUSED, why=why))
            continue
        others = tuple(
            paid.reference
            for paid in outside[row.transaction_hash]
            if paid.customer_id != row.payout.customer_id
        )
        judged.append(replace(row, others=others))
    return judged


def _payment(hash_: str, payout: Payout) -> tuple[str, str, str, int]:
    """What a transaction pays once: an address, in one coin."""
    return hash_, payout.address, payout.memo, payout.method_id


def _shared(others: Sequence[str]) -> str:
    """The remark on a transaction that is on these payouts too."""
    more = f" and {len(others) - LISTED_OTHERS} more" if len(others) > LISTED_OTHERS else ""
    return (
        "the same transaction hash is on payouts of other customers, outside this file: "
        f"{', '.join(others[:LISTED_OTHERS])}{more}"
    )


def _in_order(rows: Iterable[Row]) -> list[Row]:
    order = list(Verdict)
    return sorted(rows, key=lambda row: (order.index(row.verdict), not row.remark, row.number))


def _shown(name: str) -> str:
    """A name that can be shown: no path, nothing that is not seen; its end stays."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in base if char.isprintable()).strip()[-LONGEST_NAME:] or "file"
