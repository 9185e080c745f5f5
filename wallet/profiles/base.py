"""What every profile has in common: how its files are split, and written as CSV and XLSX."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Protocol

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell

from smsactivator.common import csvs
from smsactivator.common.errors import NotFound
from wallet.models import Payout, PayoutMethod

CENT = Decimal("0.01")


class ProfileUnknown(NotFound):
    """There are no files of this kind."""

    code = "unknown_profile"


class Row(Protocol):
    """What a profile reads of a payout: a line of a batch."""

    reference: str
    address: str
    memo: str
    currency: str
    network: str
    code: str
    amount: Decimal
    note: str


@dataclass(frozen=True, slots=True)
class Made:
    """The bytes of one file, and what is in it."""

    number: int
    format: str
    content: bytes
    rows: int
    total: Decimal  # USD


class Profile(ABC):
    """How one provider wants its file: the header, a row, what it calls a coin, its limits.

    Values are ``str`` for text and ``Decimal`` for amounts.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    header: ClassVar[tuple[str, ...]]
    most_rows: ClassVar[int]  # payouts in one file
    most_bytes: ClassVar[int]  # of one CSV file
    takes_memo: ClassVar[bool] = True

    def refuses(self, payout: Payout) -> str:
        """Why the provider is not sent this payout, in words, or ""."""
        if not self.code(payout.method):
            return f"{self.label} has no code for {payout.method}"
        if payout.memo and not self.takes_memo:
            return f"{self.label}'s files have no column for its memo"
        return ""

    @abstractmethod
    def code(self, method: PayoutMethod) -> str:
        """What the provider calls this coin on its network, or "" if it does not send it.

        Of the method's row (``code`` or a column ``…_code``): the database takes no other name.
        """

    @abstractmethod
    def values(self, row: Row) -> tuple[str | Decimal, ...]:
        """The cells of a payout, in the order of the header."""

    def files(self, rows: Sequence[Row]) -> Iterator[Made]:
        """The rows as files, each in CSV and XLSX, split where one would be above the limits."""
        for number, (part, content) in enumerate(self._parts(rows), 1):
            total = sum((row.amount for row in part), Decimal(0))
            yield Made(number, "csv", content, len(part), total)
            yield Made(number, "xlsx", self._xlsx(part), len(part), total)

    def _parts(self, rows: Sequence[Row]) -> Iterator[tuple[list[Row], bytes]]:
        head = _written(self.header)
        part: list[Row] = []
        content = bytearray(head)
        for row in rows:
            line = _written([_plain(value) for value in self.values(row)])
            if len(head) + len(line) > self.most_bytes:
                raise ValueError(f"{row.reference} alone is above the limit of a {self.label} file")
            if part and (len(part) == self.most_rows or len(content) + len(line) > self.most_bytes):
                yield part, bytes(content)
                part, content = [], bytearray(head)
            part.append(row)
            content += line
        if part:
            yield part, bytes(content)

    def _xlsx(self, rows: Sequence[Row]) -> bytes:
        book = Workbook(write_only=True)
        sheet = book.create_sheet("Payouts")

        def text(value: str) -> Any:
            if not value:
                return None
            cell: Any = WriteOnlyCell(sheet, value)
            # By its own rules the library takes what begins with "=" for a formula.
            cell.data_type = "s"
            return cell

        def figure(value: Decimal) -> Any:
            # Its stubs know no Decimal, which it writes digit by digit.
            cell: Any = WriteOnlyCell(sheet)
            cell.value = value.quantize(CENT)
            cell.number_format = "0.00"
            return cell

        sheet.append([text(name) for name in self.header])
        for row in rows:
            sheet.append(
                [
                    figure(value) if isinstance(value, Decimal) else text(value)
                    for value in self.values(row)
                ]
            )
        out = io.BytesIO()
        book.save(out)
        return out.getvalue()


def _written(values: Sequence[str | Decimal]) -> bytes:
    """A line of CSV in UTF-8, ended by CR LF as RFC 4180 has it."""
    return "".join(csvs.rows([values])).encode()


def _plain(value: str | Decimal) -> str | Decimal:
    """An amount in plain digits with two places."""
    return value.quantize(CENT) if isinstance(value, Decimal) else value
