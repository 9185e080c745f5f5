"""Batches of payouts: gathered by finance, frozen, exported as files, handed over, or given up.

Exported never means paid: what became of each payout is said by ``wallet.settlement``. Nothing here
moves money. A batch costs the same number of statements whatever its size.

Locks, in this order: the person, the batch, payouts by primary key, wallets by primary key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import NotFound, Refused, why_refused
from smsactivator.common.history import Actor
from smsactivator.common.seen import counted, refuse_outdated, refuse_unless_shown
from wallet import payouts, profiles, refusing
from wallet.deciding import RequestConflict, given, same_request
from wallet.limits import lock, require
from wallet.models import BatchLine, FileDownload, Payout, PayoutBatch, PayoutFile, Wallet
from wallet.profiles import Made, Profile

BATCH = "wallet.batch_payout"
MOST = 5000  # payouts in one batch; what is more waits for the next
LISTED_LEFT_OUT = 1000

PayoutState = Payout.State
# Wallets in these states let nothing leave.
HOLDING = (Wallet.State.FROZEN, Wallet.State.FORFEITED)


class BatchUnknown(NotFound):
    """There is no such batch."""

    code = "unknown_batch"


class FileUnknown(NotFound):
    """There is no such file of a batch."""

    code = "unknown_file"


class NothingToGather(Refused):
    """Of what was wanted nothing can be sent; the message says why."""

    code = "nothing_to_gather"


class TooMany(Refused):
    """More payouts were named than a batch takes."""

    code = "too_many_payouts"
    status = 422


class BatchElsewhere(Refused):
    """The batch is not, or no longer, in a state in which this can be done."""

    code = "batch_state"


class BatchHeld(Refused):
    """Something in the batch may not be sent any more."""

    code = "batch_held"


class OwnExport(Refused):
    """Whoever exported a batch, or has taken a file of it, does not void it."""

    code = "own_export"
    status = 403


class OwnVoid(Refused):
    """Whoever voided an exported batch has no files of its payouts from another."""

    code = "own_void"
    status = 403


@dataclass(frozen=True, slots=True)
class Selection:
    """What a batch would hold, and what is left out, each with the reason in words."""

    payouts: list[Payout]
    left_out: list[tuple[str, str]]
    more: bool  # whether others wait, for the next batch

    @property
    def total(self) -> Decimal:
        """USD."""
        return sum((payout.amount for payout in self.payouts), Decimal(0))

    @property
    def steps(self) -> int:
        """What is shown of the payouts of a preview, as ``smsactivator.common.seen`` counts."""
        return sum(payout.steps for payout in self.payouts)  # type: ignore[attr-defined]

    @property
    def totals(self) -> list[tuple[str, int, Decimal]]:
        """How many and how much of each coin, in the order of their names."""
        found: dict[str, tuple[int, Decimal]] = {}
        for payout in self.payouts:
            count, amount = found.get(str(payout.method), (0, Decimal(0)))
            found[str(payout.method)] = count + 1, amount + payout.amount
        return [(coin, *figures) for coin, figures in sorted(found.items())]


def preview(profile: str, payout_ids: Sequence[int] | None = None) -> Selection:
    """What ``gather`` would take now. Locks nothing. Raises ProfileUnknown, TooMany."""
    wanted = _wanted(payout_ids).select_related("method", "customer").order_by("pk")
    wanted = wanted.annotate(steps=counted(Payout))
    found, more = _bounded(list(wanted))
    wallets = Wallet.objects.in_bulk([payout.customer_id for payout in found])
    return _select(profiles.named(profile), found, wallets, payout_ids, more)


def gather(
    person: Any,
    *,
    profile: str,
    payout_ids: Sequence[int] | None,
    key: UUID,
    seen: int | None = None,
) -> PayoutBatch:
    """Freeze approved payouts into a batch for one provider; None is all that wait.

    Left out, and named in the batch's ``left_out`` with the reason: those not approved any more, in
    another live batch, of a frozen or forfeited wallet, and those that the provider does not send.
    Once per ``key``. ``seen`` is of the payouts that were named. Locks the person, the payouts, the
    wallets. Raises PermissionDenied, ProfileUnknown, TooMany, Outdated, NothingToGather,
    RequestConflict.
    """
    require(person, BATCH)
    maker = profiles.named(profile)
    wanted = _wanted(payout_ids)
    with transaction.atomic():
        lock(person)
        if made := same_request(PayoutBatch, key, profile=profile, made_by_id=person.pk):
            _refuse_others(made, payout_ids)
            return made
        found, more = _bounded(payouts.lock_payouts(wanted))
        refuse_unless_shown("What was to be gathered", seen, (Payout, payout_ids or ()))
        selection = _select(maker, found, _lock_wallets(found), payout_ids, more)
        if not selection.payouts:
            raise NothingToGather(_nothing(selection.left_out))
        batch = PayoutBatch(
            profile=profile,
            count=len(selection.payouts),
            total=selection.total,
            left_out=selection.left_out[:LISTED_LEFT_OUT],
            made_by=person,
            made_at=timezone.now(),
            request_key=key,
        )
        history.create([batch], actor=Actor.person(person), reason="Gathered")
        BatchLine.objects.bulk_create(
            BatchLine(
                batch=batch,
                payout=payout,
                position=position,
                attempt=payout.attempt,
                reference=payout.reference,
                address=payout.address,
                memo=payout.memo,
                currency=payout.method.currency,
                network=payout.method.network,
                code=maker.code(payout.method),
                amount=payout.amount,
                note=payout.reference,
            )
            for position, payout in enumerate(selection.payouts, 1)
        )
        return batch


def export(person: Any, batch_id: int, *, seen: int | None = None) -> PayoutBatch:
    """Make the batch's files, once, and take its payouts to exported.

    Not by whoever voided an exported batch of the same payouts: who says alone that the first files
    were not sent does not have the second. Locks the person, the batch, the payouts, the wallets.
    Raises PermissionDenied, BatchUnknown, Outdated, BatchElsewhere, OwnVoid; BatchHeld when a
    wallet was frozen or forfeited since, or an address refused, naming the payouts.
    """
    require(person, BATCH)
    # Lines are frozen, so the files are made before anything is locked.
    lines = list(BatchLine.objects.filter(batch=batch_id).order_by("position"))
    made = _files(batch_id, lines)
    with transaction.atomic():
        lock(person)
        batch = _lock_batch(batch_id, seen)
        _refuse_unless(batch, PayoutBatch.State.GATHERED, "exported")
        if why := why_no_files(person, batch):
            raise OwnVoid(why)
        locked = _lock_payouts(lines)
        wallets = _lock_wallets(locked)
        if why := _why_held(batch, locked, wallets):
            raise BatchHeld(why)
        PayoutFile.objects.bulk_create(
            PayoutFile(
                batch=batch,
                number=one.number,
                format=one.format,
                name=f"{batch.reference}-{batch.profile}-{one.number}.{one.format}",
                content=one.content,
                size=len(one.content),
                rows=one.rows,
                total=one.total,
                sha256=hashlib.sha256(one.content).hexdigest(),
            )
            for one in made
        )
        for payout in locked:
            payout.export()
        batch.export()
        batch.exported_by, batch.exported_at = person, timezone.now()
        _save(batch, locked, person, "exported", "Exported")
        return batch


def download(person: Any, file_id: int) -> PayoutFile:
    """A file with its bytes, as they were made; that the person took it is written down.

    Not of a voided batch, nor of one with a payout that has failed, or was let go since, to be sent
    again or given back: sent by mistake it would pay twice. Nor before the batch is submitted, if a
    wallet was frozen or forfeited since, or an address refused: nobody may have sent it yet. Nor by
    whoever voided an exported batch of the same payouts. Locks the batch. Raises PermissionDenied,
    FileUnknown, BatchElsewhere, OwnVoid, BatchHeld.
    """
    require(person, BATCH)
    with transaction.atomic():
        file = PayoutFile.objects.filter(pk=file_id).first()
        if file is None:
            raise FileUnknown(f"There is no file {file_id}.")
        batch = _lock_batch(file.batch_id)
        _refuse_download(person, batch)
        FileDownload.objects.create(file=file, person=person, at=timezone.now())
        return file


def _refuse_download(person: Any, batch: PayoutBatch) -> None:
    if batch.state == PayoutBatch.State.VOIDED:
        raise BatchElsewhere(f"{batch} was voided, so its files are not to be sent.")
    if why := why_no_files(person, batch):
        raise OwnVoid(why)
    gone = list(batch.lines.filter(live=False).order_by("position")[:5])
    if gone:
        raise BatchElsewhere(
            f"{', '.join(line.reference for line in gone)} failed and was sent again or given "
            f"back since: the files of {batch} would pay it twice."
        )
    failed = Payout.objects.filter(lines__batch=batch, state=PayoutState.FAILED).order_by("pk")
    if references := [payout.reference for payout in failed[:11]]:
        then = (
            f"Submit {batch} if its files were handed over, or void it."
            if batch.state == PayoutBatch.State.EXPORTED
            else "Send it again, or give it back."
        )
        raise BatchElsewhere(
            f"{_listed(references)} failed, so the files are not taken any more. {then}"
        )
    if batch.state == PayoutBatch.State.EXPORTED and (why := _why_held_now(batch)):
        raise BatchHeld(why)


def submit(person: Any, batch_id: int, *, reason: str = "", seen: int | None = None) -> PayoutBatch:
    """Note that the files were handed to whoever sends the money.

    Payouts whose result came before stay as they are. Locks the person, the batch, the payouts.
    Raises PermissionDenied, BatchUnknown, Outdated, BatchElsewhere.
    """
    require(person, BATCH)
    with transaction.atomic():
        lock(person)
        batch = _lock_batch(batch_id, seen)
        _refuse_unless(batch, PayoutBatch.State.EXPORTED, "submitted")
        locked = [
            payout
            for payout in _lock_payouts(batch.lines.filter(live=True))
            if payout.state == PayoutState.EXPORTED
        ]
        for payout in locked:
            payout.submit()
        batch.submit()
        batch.submitted_by, batch.submitted_at = person, timezone.now()
        why = f"Submitted: {reason.strip()}" if reason.strip() else "Submitted"
        _save(batch, locked, person, "submitted", why)
        return batch


def void(person: Any, batch_id: int, *, reason: str, seen: int | None = None) -> PayoutBatch:
    """Give the batch up before anybody sends it: its payouts are approved, and in no batch.

    An exported one is voided by another person than who exported it or has taken a file of it, and
    only while none of its payouts was ever paid. Those that somebody said have failed stay so, to
    be sent again or given back. Locks the person, the batch, the payouts. Raises
    PermissionDenied, ReasonMissing, BatchUnknown, Outdated, BatchElsewhere, OwnExport, BatchHeld.
    """
    require(person, BATCH)
    reason = given(reason)
    with transaction.atomic():
        lock(person)
        batch = _lock_batch(batch_id, seen)
        was_exported = batch.state == PayoutBatch.State.EXPORTED
        if not was_exported:
            _refuse_unless(batch, PayoutBatch.State.GATHERED, "voided")
        if why := why_not_voider(person, batch):
            raise OwnExport(why)
        # All lines are live: none is let go before its batch is submitted or voided.
        locked = _lock_payouts(batch.lines.all())
        if why := _why_sent(batch, locked):
            raise BatchHeld(why)
        unsent = [payout for payout in locked if payout.state == _unsent_state(batch)]
        batch.lines.update(live=False)
        if was_exported:
            for payout in unsent:
                payout.void()
        batch.void()
        batch.voided_by, batch.voided_at, batch.void_reason = person, timezone.now(), reason
        _save(batch, unsent if was_exported else [], person, "voided", f"Voided: {reason}")
        return batch


def why_not_export(person: Any, batch: PayoutBatch) -> str:
    """Why this person does not export a gathered batch now; "" if nothing keeps them."""
    if why := why_no_files(person, batch):
        return why
    return _why_held_now(batch)


def why_not_void(person: Any, batch: PayoutBatch) -> str:
    """Why this person does not void a gathered or exported batch now; "" if nothing keeps them."""
    found = Payout.objects.filter(lines__batch=batch).exclude(state=_unsent_state(batch))
    return why_not_voider(person, batch) or _why_sent(batch, list(found.order_by("pk")))


def why_not_download(person: Any, batch: PayoutBatch) -> str:
    """Why this person takes no file of the batch now; "" if nothing keeps them."""
    return why_refused(_refuse_download, person, batch)


def _why_held_now(batch: PayoutBatch) -> str:
    """As ``_why_held``, of what nobody has sent of the batch as it is now; locks nothing."""
    unsent = Payout.objects.filter(lines__batch=batch, state=_unsent_state(batch))
    found = list(unsent.select_related("method").order_by("pk"))
    wallets = Wallet.objects.in_bulk({payout.customer_id for payout in found})
    return _why_held(batch, found, wallets)


def _why_held(batch: PayoutBatch, found: Sequence[Payout], wallets: dict[int, Wallet]) -> str:
    """Why a batch may not be sent any more, by the wallets and addresses of its payouts."""
    then = f"Void {batch} and gather the others anew."
    if batch.state == PayoutBatch.State.EXPORTED:
        then = (
            f"Submit {batch} if its files were handed over, or void it and gather the others anew."
        )
    held = [payout.reference for payout in found if _held(wallets, payout)]
    if held:
        return f"{_listed(held)}: the wallet is frozen or forfeited by now. {then}"
    nobodys = refusing.refused_among(found)
    if not nobodys:
        return ""
    listed = _listed([payout.reference for payout in found if payout.pk in nobodys])
    return f"{listed}: nothing is paid out to the address by now. {then}"


def _unsent_state(batch: PayoutBatch) -> PayoutState:
    """What a payout of a batch is that nobody has sent."""
    gathered = batch.state == PayoutBatch.State.GATHERED
    return PayoutState.APPROVED if gathered else PayoutState.EXPORTED


def _why_sent(batch: PayoutBatch, found: Sequence[Payout]) -> str:
    """By which of its payouts a batch was sent; those that never were paid may have failed."""
    settled = [
        payout.reference
        for payout in found
        if payout.state != _unsent_state(batch)
        and (payout.state != PayoutState.FAILED or payout.transaction_hash)
    ]
    if not settled:
        return ""
    return f"{_listed(settled)}: a result is known, so {batch} was sent. Submit it instead."


def why_not_voider(person: Any, batch: PayoutBatch) -> str:
    """Why this person, of all, does not void the batch; "" if nothing keeps them.

    Void says that nobody has sent it, which whoever had its files does not say alone.
    """
    if batch.exported_by_id == person.pk:
        return "You exported this batch, so somebody else voids it."
    if FileDownload.objects.filter(file__batch=batch, person=person).exists():
        return "You have taken a file of this batch, so somebody else voids it."
    return ""


def why_no_files(person: Any, batch: PayoutBatch) -> str:
    """Why this person, of all, neither makes nor takes the batch's files; "" if nothing keeps them.

    Whoever voided an exported batch said that nobody had sent it. If that was not so, its payouts
    are paid twice by the next files, so those are somebody else's.
    """
    given_up = (
        BatchLine.objects.filter(
            batch__voided_by=person,
            batch__exported_by__isnull=False,
            payout__lines__batch=batch,
            payout__lines__attempt=F("attempt"),
        )
        .select_related("batch")
        .order_by("pk")
        .first()
    )
    if given_up is None:
        return ""
    return (
        f"You voided {given_up.batch}, which had {given_up.reference} too, so somebody else makes "
        f"and takes the files of {batch}."
    )


# --- how it is done ---


def _files(batch_id: int, lines: Sequence[BatchLine]) -> list[Made]:
    batch = PayoutBatch.objects.filter(pk=batch_id, state=PayoutBatch.State.GATHERED).first()
    return list(profiles.named(batch.profile).files(lines)) if batch else []


def _wanted(payout_ids: Sequence[int] | None) -> Any:
    """The payouts that were named, or all that are approved and in no batch."""
    if payout_ids is None:
        live = BatchLine.objects.filter(payout=OuterRef("pk"), live=True)
        free = Payout.objects.filter(~Exists(live), state=PayoutState.APPROVED)
        return Payout.objects.filter(pk__in=free.order_by("pk").values("pk")[: MOST + 1])
    if len(payout_ids) > MOST:
        raise TooMany(f"A batch takes {MOST} payouts, and these are {len(payout_ids)}.")
    return Payout.objects.filter(pk__in=payout_ids)


def _bounded(found: list[Payout]) -> tuple[list[Payout], bool]:
    return found[:MOST], len(found) > MOST


def _select(
    maker: Profile,
    found: Sequence[Payout],
    wallets: dict[int, Wallet],
    payout_ids: Iterable[int] | None,
    more: bool,
) -> Selection:
    """Part the payouts into those that go and those that do not."""
    elsewhere = payouts.gathered(found)
    nobodys = refusing.refused_among(found)
    going: list[Payout] = []
    left_out: list[tuple[str, str]] = []
    destinations: dict[tuple[Any, ...], str] = {}
    for payout in found:
        why = _why_not(maker, payout, elsewhere.get(payout.pk), wallets)
        if not why and payout.pk in nobodys:
            why = f"nothing is paid out to its address, which is {nobodys[payout.pk]}"
        if not why:
            # One transaction may pay a whole file, and two results by one hash are one payment.
            to = (payout.method_id, payout.address, payout.memo)
            first = destinations.setdefault(to, payout.reference)
            if first != payout.reference:
                why = f"{first} goes to the same address: gather it by itself, afterwards"
        if why:
            left_out.append((payout.reference, why))
        else:
            going.append(payout)
    known = {payout.pk for payout in found}
    left_out += [
        (f"Payout {pk}", "there is no such payout") for pk in sorted(set(payout_ids or ()) - known)
    ]
    return Selection(going, left_out, more)


def _refuse_others(made: PayoutBatch, payout_ids: Iterable[int] | None) -> None:
    """Raise RequestConflict when the form that made the batch now names other payouts."""
    if payout_ids is not None and made.lines.exclude(payout__in=payout_ids).exists():
        raise RequestConflict(
            f"This form was sent before, and made {made} of other payouts: open it anew."
        )


def _why_not(
    maker: Profile, payout: Payout, line: BatchLine | None, wallets: dict[int, Wallet]
) -> str:
    if line is not None:
        return f"it is in {line.batch}"
    if payout.state != PayoutState.APPROVED:
        return f"it is “{payout.get_state_display()}” by now"
    if _held(wallets, payout):
        return f"the wallet is {wallets[payout.customer_id].state}"
    return maker.refuses(payout)


def _held(wallets: dict[int, Wallet], payout: Payout) -> bool:
    """Whether nothing may leave the customer's wallet: a closed one is empty, and was left."""
    return wallets[payout.customer_id].state in HOLDING


def _nothing(left_out: Sequence[tuple[str, str]]) -> str:
    if not left_out:
        return "No approved payout waits to be gathered."
    some = "; ".join(f"{name}: {why}" for name, why in left_out[:10])
    more = f"; and {len(left_out) - 10} more" if len(left_out) > 10 else ""
    return f"Nothing is left to gather. {some}{more}."


def _listed(references: Sequence[str]) -> str:
    more = f" and {len(references) - 10} more" if len(references) > 10 else ""
    return f"{', '.join(references[:10])}{more}"


def _lock_batch(batch_id: int, seen: int | None = None) -> PayoutBatch:
    batch = PayoutBatch.objects.select_for_update(no_key=True).filter(pk=batch_id).first()
    if batch is None:
        raise BatchUnknown(f"There is no batch {batch_id}.")
    refuse_outdated(batch, seen)
    return batch


def _refuse_unless(batch: PayoutBatch, state: PayoutBatch.State, done: str) -> None:
    if batch.state != state:
        raise BatchElsewhere(
            f"{batch} is {batch.get_state_display().lower()} by now, so it is not {done}."
        )


def _lock_payouts(lines: Iterable[BatchLine]) -> list[Payout]:
    return payouts.lock_payouts(Payout.objects.filter(pk__in=[line.payout_id for line in lines]))


def _lock_wallets(of: Iterable[Payout]) -> dict[int, Wallet]:
    ids = {payout.customer_id for payout in of}
    locked = Wallet.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
    return {wallet.pk: wallet for wallet in locked}


def _save(batch: PayoutBatch, locked: Sequence[Payout], person: Any, step: str, why: str) -> None:
    """Write a step of a batch and of its payouts, with their histories."""
    actor = Actor.person(person)
    history.save(locked, ["state"], actor=actor, reason=f"{why} ({batch})")
    fields = ["state", f"{step}_by", f"{step}_at"]
    if step == "voided":
        fields.append("void_reason")
    history.save([batch], fields, actor=actor, reason=why)
