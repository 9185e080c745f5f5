"""Addresses: published ones pass, and each kind of mistake is named in exact words."""

from __future__ import annotations

import base64
import binascii
import re
import string

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet import addresses
from wallet.models import PayoutMethod

Format = PayoutMethod.AddressFormat
MemoRule = PayoutMethod.MemoRule

NETWORKS = {
    Format.TRON: "TRON",
    Format.EVM: "ETHEREUM",
    Format.SOLANA: "SOLANA",
    Format.STELLAR: "STELLAR",
    Format.TON: "TON",
}
# Published: EIP-55's own, contracts and mints of USDT and USDC, SEP-23's own, and TON's documents'.
PUBLISHED = {
    Format.TRON: [
        "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
        "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8",
        "TJRabPrwbZy45sbavfcjinPJC18kjpRTv8",
    ],
    Format.EVM: [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0xdAC17F958D2ee523a2206206994597C13D831ec7",
        "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
    ],
    Format.SOLANA: [
        "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB",
    ],
    Format.STELLAR: [
        "GA7QYNF7SOWQ3GLR2BGMZEHXAVIRZA4KVWLTJJFC7MGXUA74P7UJVSGZ",
        "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN",
    ],
    Format.TON: [
        "EQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_sDs",
        "EQBvW8Z5huBkMJYdnfAEM5JqTNkuWX3diqYENkWsIL0XggGG",
    ],
}
CASES = [(form, address) for form, listed in PUBLISHED.items() for address in listed]

TYPO = "its checksum is wrong, so there is a typing error in it: ask the customer to copy it again."
CAPITALS = (
    "its capital letters are missing, and with them its checksum (EIP-55): ask the customer to copy"
    " it again from their wallet."
)
ZERO = "it is the zero address, of which nobody has the key."


def method(form: Format, memo: MemoRule = MemoRule.NONE) -> PayoutMethod:
    return PayoutMethod(
        currency="USDT", network=NETWORKS[form], address_format=form, memo_rule=memo
    )


def refusal(form: Format, address: str) -> str:
    """What is said of an address that cannot be paid to."""
    with pytest.raises(addresses.AddressRefused) as refused:
        addresses.check(method(form), address)
    beginning = f"This is not an address for USDT on {NETWORKS[form]}: "
    assert refused.value.message.startswith(beginning)
    assert not address or address not in refused.value.message
    return refused.value.message.removeprefix(beginning)


def ton(tag: int, workchain: int = 0, account: bytes = b"\x07" * 32) -> str:
    body = bytes([tag, workchain]) + account
    return base64.urlsafe_b64encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "big")).decode()


def stellar(version: int, key: bytes) -> str:
    body = bytes([version]) + key
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode()


@pytest.mark.parametrize(("form", "address"), CASES)
def test_a_published_address_passes_as_it_is_with_blanks_around_it(form, address):
    assert addresses.check(method(form), f" {address}\n") == (address, "")


@pytest.mark.parametrize(
    ("form", "other"), [(form, other) for form in Format for other in Format if form != other]
)
def test_an_address_of_another_network_is_refused(form, other):
    for address in PUBLISHED[other]:
        assert refusal(form, address)


@pytest.mark.parametrize(
    ("form", "address", "words"),
    [
        (
            Format.TRON,
            PUBLISHED[Format.EVM][4],
            "this is an Ethereum address; one on Tron begins with T.",
        ),
        (
            Format.TRON,
            PUBLISHED[Format.TRON][0][:-1],
            "one on Tron is T and 33 letters and digits.",
        ),
        (Format.TRON, "T" + "0" * 33, "one on Tron is T and 33 letters and digits."),
        (Format.TRON, "", "one on Tron is T and 33 letters and digits."),
        (Format.TRON, "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6T", TYPO),
        (Format.TRON, base58.b58encode_check(b"\x41" + bytes(20)).decode(), ZERO),
        (
            Format.EVM,
            PUBLISHED[Format.TRON][0],
            "this is an address on Tron; one of this network begins with 0x.",
        ),
        (
            Format.EVM,
            PUBLISHED[Format.EVM][4][2:],
            "one of this network is 0x and 40 hexadecimal digits.",
        ),
        (
            Format.EVM,
            PUBLISHED[Format.EVM][4] + "0",
            "one of this network is 0x and 40 hexadecimal digits.",
        ),
        (Format.EVM, PUBLISHED[Format.EVM][4].lower(), CAPITALS),
        (Format.EVM, "0x" + PUBLISHED[Format.EVM][4][2:].upper(), CAPITALS),
        (Format.EVM, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", TYPO),
        (Format.EVM, "0x" + "0" * 40, ZERO),
        (Format.SOLANA, "EPjFWdd5AufqSSqeM2qN1x", "one on Solana is the Base58 of 32 bytes."),
        (Format.SOLANA, "0" * 44, "one on Solana is the Base58 of 32 bytes."),
        (Format.SOLANA, "é" * 44, "one on Solana is the Base58 of 32 bytes."),
        (Format.SOLANA, "z" * 1_000_000, "one on Solana is the Base58 of 32 bytes."),
        (Format.SOLANA, "1" * 32, ZERO),
        (Format.STELLAR, "GA5Z", "one on Stellar is G and 55 capital letters and digits."),
        (
            Format.STELLAR,
            PUBLISHED[Format.STELLAR][0].lower(),
            "one on Stellar is G and 55 capital letters and digits.",
        ),
        (Format.STELLAR, PUBLISHED[Format.STELLAR][0][:-1] + "A", TYPO),
        (Format.STELLAR, stellar(6 << 3, bytes(32)), ZERO),
        (Format.TON, "EQCx", "one on TON is 48 letters, digits, dashes and underscores."),
        (Format.TON, PUBLISHED[Format.TON][0][:-1] + "t", TYPO),
        (Format.TON, ton(0x91), "it is one of a test network."),
        (Format.TON, ton(0xD1), "it is one of a test network."),
        (Format.TON, ton(0x51, account=bytes(32)), ZERO),
    ],
)
def test_a_mistake_is_named(form, address, words):
    assert refusal(form, address) == words


def test_both_forms_of_an_account_on_ton_are_right():
    for tag in (0x11, 0x51):
        assert addresses.check(method(Format.TON), ton(tag)) == (ton(tag), "")


def test_another_kind_of_key_on_stellar_or_of_version_on_tron_is_refused():
    # A secret seed begins with S: it must never be kept, and neither is it an address.
    assert refusal(Format.STELLAR, stellar(18 << 3, b"\x01" * 32)) == (
        "one on Stellar is G and 55 capital letters and digits."
    )
    bitcoin = base58.b58encode_check(b"\x00" + b"\x01" * 20).decode()
    assert refusal(Format.TRON, bitcoin) == "one on Tron is T and 33 letters and digits."


# --- one changed character ---


def changed(address: str, at: int, to: str) -> str:
    return address[:at] + to + address[at + 1 :]


LETTERS = {
    Format.TRON: base58.BITCOIN_ALPHABET.decode(),
    Format.STELLAR: string.ascii_uppercase + "234567",
    Format.TON: string.ascii_letters + string.digits + "-_",
}


@given(data=st.data(), form=st.sampled_from(sorted(LETTERS)))
def test_one_changed_character_is_refused(data, form):
    # Their checksums find every such change: 32 bits of a hash, or a CRC longer than a character.
    address = data.draw(st.sampled_from(PUBLISHED[form]))
    at = data.draw(st.integers(0, len(address) - 1))
    to = data.draw(st.sampled_from([c for c in LETTERS[form] if c != address[at]]))

    assert refusal(form, changed(address, at, to))


@given(data=st.data(), form=st.sampled_from(sorted(LETTERS)))
def test_two_characters_that_changed_places_are_refused(data, form):
    address = data.draw(st.sampled_from(PUBLISHED[form]))
    places = [at for at in range(len(address) - 1) if address[at] != address[at + 1]]
    at = data.draw(st.sampled_from(places))
    swapped = address[:at] + address[at + 1] + address[at] + address[at + 2 :]

    assert refusal(form, swapped)


@given(data=st.data())
def test_one_letter_in_the_other_case_is_refused_on_ethereum(data):
    address = data.draw(st.sampled_from(PUBLISHED[Format.EVM]))
    letters = [at for at in range(2, len(address)) if address[at].isalpha()]
    at = data.draw(st.sampled_from(letters))

    assert refusal(Format.EVM, changed(address, at, address[at].swapcase()))


@pytest.mark.parametrize("address", PUBLISHED[Format.EVM][4:])
def test_every_changed_digit_of_these_is_refused_on_ethereum(address):
    # EIP-55 lets one typing error in some thousands pass, so all of these are tried, not any.
    for at in range(2, len(address)):
        for to in sorted(set(string.hexdigits) - {address[at]}):
            assert refusal(Format.EVM, changed(address, at, to))


# --- memos ---


def test_a_memo_is_refused_where_there_is_none_and_asked_for_where_it_is_needed():
    address = PUBLISHED[Format.STELLAR][0]
    none, optional, required = (method(Format.STELLAR, rule) for rule in MemoRule)

    for refused, memo, words in [
        (none, "7", "USDT on STELLAR takes no memo: leave it empty."),
        (
            required,
            "  ",
            "USDT on STELLAR needs a memo (tag), without which the money is lost: ask the"
            " customer.",
        ),
        *(
            (
                optional,
                memo,
                "A memo is up to 64 letters and digits, with spaces, dots and dashes between them.",
            )
            for memo in ("=1+1", "-7", "a" * 65, "a\tb", "a\nb", "é", "@x")
        ),
    ]:
        with pytest.raises(addresses.AddressRefused) as refusal_:
            addresses.check(refused, address, memo)
        assert refusal_.value.message == words

    assert addresses.check(none, address) == (address, "")
    assert addresses.check(optional, address) == (address, "")
    assert addresses.check(required, address, " 104 729-a.b_c ") == (address, "104 729-a.b_c")
    assert addresses.check(optional, address, "a" * 64) == (address, "a" * 64)


# --- hashes of transactions ---


@pytest.mark.parametrize(
    ("form", "given_", "kept"),
    [
        (Format.TRON, f" {'AB' * 32} ", "ab" * 32),
        (Format.TRON, "0x" + "ab" * 32, "ab" * 32),
        (Format.EVM, "ab" * 32, "0x" + "ab" * 32),
        (Format.EVM, "0X" + "AB" * 32, "0x" + "ab" * 32),
        (Format.STELLAR, "ab" * 32, "ab" * 32),
        (Format.TON, "ab" * 32, "ab" * 32),
        (Format.SOLANA, base58.b58encode(b"\x07" * 64).decode(), None),
    ],
)
def test_a_hash_is_kept_in_one_form(form, given_, kept):
    assert addresses.check_hash(method(form), given_) == (kept or given_)


@pytest.mark.parametrize("form", [Format.TRON, Format.EVM, Format.STELLAR, Format.TON])
@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "xy" * 32, "=cmd", "0x"])
def test_what_is_no_hash_is_refused(form, text):
    with pytest.raises(addresses.HashRefused) as refused:
        addresses.check_hash(method(form), text)
    assert refused.value.message == (
        f"A transaction on {NETWORKS[form]} is named by 64 hexadecimal digits."
    )


@pytest.mark.parametrize("text", ["", "ab" * 32, "0" * 88, "z" * 1_000_000])
def test_what_is_no_signature_is_refused_on_solana(text):
    with pytest.raises(addresses.HashRefused) as refused:
        addresses.check_hash(method(Format.SOLANA), text)
    assert refused.value.message == "A Solana signature is the Base58 of 64 bytes."


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("TRON", ["TRON", "tron", "TRX", "TRC20", "TRC-20", "trc_20"]),
        ("ETHEREUM", ["Ethereum", "ETH", "ERC20", "ERC-20"]),
        ("SOLANA", ["SOL", "SPL"]),
        ("STELLAR", ["XLM"]),
        ("TON", ["Toncoin"]),
        ("BNB", ["BEP20", "BSC"]),
        ("POLYGON", ["MATIC", "POL"]),
        ("NEW-NET", ["new-net", "New Net"]),
    ],
)
def test_a_network_has_the_names_that_providers_give_it_and_no_others(network, names):
    method = PayoutMethod(network=network)
    every = {"TRX", "ERC20", "SPL", "XLM", "TONCOIN", "BEP20", "MATIC", "NEWNET", "", "TRC2"}
    others = every - {re.sub("[-_ ]", "", name).upper() for name in names}

    assert [name for name in names if not addresses.is_network(method, name)] == []
    assert [name for name in others if addresses.is_network(method, name)] == []
