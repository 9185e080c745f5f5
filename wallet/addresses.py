"""Addresses on networks: whether a payout can go there, before anything is sent.

A checksum finds the typo, the format the wrong network. Nothing here asks a network.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

import base58
from Crypto.Hash import keccak

from smsactivator.common.errors import Invalid
from wallet.models import PayoutMethod

Format = PayoutMethod.AddressFormat
MemoRule = PayoutMethod.MemoRule

MEMO = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")
TRON_MAINNET = b"\x41"
STELLAR_ACCOUNT = 6 << 3
# What others call a network: our name, the standard of tokens that customers write, or "", and what
# else providers write, as the name of its coin.
NETWORKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("TRON", "TRC-20", ("TRX",)),
    ("ETHEREUM", "ERC-20", ("ETH",)),
    ("SOLANA", "", ("SOL", "SPL")),
    ("STELLAR", "", ("XLM",)),
    ("TON", "", ("TONCOIN",)),
    ("BSC", "BEP-20", ("BNB",)),
    ("POLYGON", "", ("MATIC", "POL")),
)
# Accounts below this number are the programs of the network itself, and 0x…dEaD.
OWN_PROGRAMS = 2**16
# Bounceable and not; a test network's has 0x80 set beside.
TON_TAGS = {0x11, 0x51}


class AddressRefused(Invalid):
    """The address or memo is not one that this coin can be sent to."""

    code = "address_refused"


class HashRefused(Invalid):
    """This is not the hash of a transaction on the payout's network."""

    code = "hash_refused"


def check(method: PayoutMethod, address: str, memo: str = "") -> tuple[str, str]:
    """The address and the memo (tag) as they are kept, without blanks around them.

    Raises AddressRefused, which says what is wrong and never repeats the address.
    """
    address, memo = address.strip(), memo.strip()
    problem = _CHECKS[Format(method.address_format)](address)
    if problem:
        raise AddressRefused(f"This is not an address for {method}: {problem}")
    if memo and method.memo_rule == MemoRule.NONE:
        raise AddressRefused(f"{method} takes no memo: leave it empty.")
    if not memo and method.memo_rule == MemoRule.REQUIRED:
        raise AddressRefused(
            f"{method} needs a memo (tag), without which the money is lost: ask the customer."
        )
    if memo and not MEMO.fullmatch(memo):
        raise AddressRefused(
            "A memo is up to 64 letters and digits, with spaces, dots and dashes between them."
        )
    return address, memo


def key_of(address_format: str, address: str) -> str:
    """The address however it is written: the same for all that go to the same place.

    The database computes the same (``address_key``).
    """
    if address_format == Format.EVM:
        return address.lower()
    if address_format == Format.TON:
        # The workchain and the account, without whether a payment bounces.
        return base64.urlsafe_b64decode(address)[1:34].hex()
    return address


def problem_with(address_format: str, address: str) -> str:
    """What is wrong with an address of this format, in words; "" if nothing is."""
    return _CHECKS[Format(address_format)](address)


def check_hash(method: PayoutMethod, transaction_hash: str) -> str:
    """The hash of a transaction as it is kept. Raises HashRefused."""
    text = transaction_hash.strip()
    if method.address_format == Format.SOLANA:
        if len(_base58(text, 64)) != 64:
            raise HashRefused("A Solana signature is the Base58 of 64 bytes.")
        return text
    digits = text.lower().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise HashRefused(f"A transaction on {method.network} is named by 64 hexadecimal digits.")
    return f"0x{digits}" if method.address_format == Format.EVM else digits


def is_network(method: PayoutMethod, name: str) -> bool:
    """Whether a provider means the method's network by this name, in capitals or not."""
    ours, theirs = _plain(method.network), _plain(name)
    return ours == theirs or any(
        {ours, theirs} <= {network, _plain(standard), *more} - {""}
        for network, standard, more in NETWORKS
    )


def standard_of(method: PayoutMethod) -> str:
    """The standard of tokens by which customers know the method's network, as TRC-20, or ""."""
    return next((standard for network, standard, _ in NETWORKS if network == method.network), "")


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).upper()


def _tron(address: str) -> str:
    """https://developers.tron.network/docs/account: Base58Check of 0x41 and 20 bytes."""
    if address.startswith("0x"):
        return "this is an Ethereum address; one on Tron begins with T."
    if not re.fullmatch(r"T[1-9A-HJ-NP-Za-km-z]{33}", address):
        return "one on Tron is T and 33 letters and digits."
    try:
        payload = base58.b58decode_check(address)
    except ValueError:
        return _TYPO
    if payload[:1] != TRON_MAINNET or len(payload) != 21:
        return _TYPO
    return _nobodys(payload[1:])


def _evm(address: str) -> str:
    """EIP-55: capitals are the checksum, so an address without them cannot be trusted."""
    if address.startswith("T"):
        return "this is an address on Tron; one of this network begins with 0x."
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", address):
        return "one of this network is 0x and 40 hexadecimal digits."
    digits = address[2:]
    hashed = keccak.new(digest_bits=256, data=digits.lower().encode()).hexdigest()
    right = "".join(
        letter.upper() if int(nibble, 16) >= 8 else letter
        for letter, nibble in zip(digits.lower(), hashed, strict=False)
    )
    if digits in {digits.lower(), digits.upper()} and digits != right:
        return (
            "its capital letters are missing, and with them its checksum (EIP-55): ask the "
            "customer to copy it again from their wallet."
        )
    if digits != right:
        return _TYPO
    return _nobodys(bytes.fromhex(digits))


def _nobodys(account: bytes) -> str:
    """Whether nobody has the key of an account of 20 bytes, by how it looks.

    The first are the networks' own programs; what people burn coins at is as easy to remember.
    """
    if not any(account):
        return _ZERO
    if int.from_bytes(account, "big") < OWN_PROGRAMS or len(set(account)) == 1:
        return "it is one of which nobody has the key: coins are burnt there."
    return ""


def _solana(address: str) -> str:
    """https://solana.com/docs/core/accounts: Base58 of a public key of 32 bytes."""
    key = _base58(address, 32)
    if len(key) != 32:
        return "one on Solana is the Base58 of 32 bytes."
    return "" if any(key) else _ZERO


def _stellar(address: str) -> str:
    """SEP-23 (StrKey): a version byte, 32 bytes and their CRC-16, in Base32."""
    if not re.fullmatch(r"G[A-Z2-7]{55}", address):
        return "one on Stellar is G and 55 capital letters and digits."
    raw = base64.b32decode(address)
    checksum = int.from_bytes(raw[-2:], "little")
    if raw[0] != STELLAR_ACCOUNT or binascii.crc_hqx(raw[:-2], 0) != checksum:
        return _TYPO
    return "" if any(raw[1:-2]) else _ZERO


def _ton(address: str) -> str:
    """TEP-2: a tag, the workchain, 32 bytes and their CRC-16, in URL-safe Base64."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{48}", address):
        return "one on TON is 48 letters, digits, dashes and underscores."
    raw = base64.urlsafe_b64decode(address)
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "big"):
        return _TYPO
    if raw[0] not in TON_TAGS:
        return "it is one of a test network."
    return "" if any(raw[2:-2]) else _ZERO


_TYPO = (
    "its checksum is wrong, so there is a typing error in it: ask the customer to copy it again."
)
_ZERO = "it is the zero address, of which nobody has the key."
_CHECKS: dict[Format, Callable[[str], str]] = {
    Format.TRON: _tron,
    Format.EVM: _evm,
    Format.SOLANA: _solana,
    Format.STELLAR: _stellar,
    Format.TON: _ton,
}


def _base58(text: str, size: int) -> bytes:
    """The bytes, or none where it is not Base58 or longer than ``size`` bytes can be."""
    if len(text) > size * 3 // 2:
        return b""
    try:
        return base58.b58decode(text)
    except ValueError:
        return b""
