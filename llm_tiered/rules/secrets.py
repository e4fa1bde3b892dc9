"""What should not leave this machine by accident: keys and tokens, card numbers, IBANs.

These are found by their known forms. A secret in another form, such as a password in a sentence,
is not found.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.rules import Secret

# The forms that services document for their keys and tokens. A digit is asked for where an ordinary
# word could have the same form. Every repetition has a limit, so that no text takes long.
_KEYS = r"""
    \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                             # Amazon
    | \bAIza[\w-]{35}                                         # Google
    | \bya29\.[\w-]{20}                                       # Google, OAuth
    | \bsk-(?=[\w-]{0,60}\d)[\w-]{20}                         # OpenAI, Anthropic and others
    | \b(?:gsk|hf|npm|dop_v1|shpat|gh[pousr]|github_pat)_(?=\w{0,40}\d)\w{20}
    | \b(?:xai|glpat|pypi)-(?=[\w-]{0,40}\d)[\w-]{20}
    | \bxox[abeoprs]-[\w-]{10}                               # Slack
    | \b[rs]k_(?:live|test)_\w{16}                           # Stripe
    | \bSG\.[\w-]{16,32}\.[\w-]{16}                         # SendGrid
    | \beyJ[\w-]{10,400}\.eyJ[\w-]{10}                       # JSON web tokens
    | -----BEGIN\ (?:[A-Z0-9]{1,20}\ ){0,4}PRIVATE\ KEY(?:\ BLOCK)?-----
    | \b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:[^\s/@]{3,200}@[\w.-]   # a password in a URL
"""

# Digits, in groups or not, that are not part of a longer number.
_DIGITS = re.compile(r"(?<![\d.,])\d(?:[ -]?\d){12,18}(?!\d)")

# The first digits of the cards of Visa, Mastercard, American Express, Diners Club, Discover, JCB,
# UnionPay and Maestro (ISO/IEC 7812).
_CARD = re.compile(
    r"4|5[0-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|3[47]|3(?:0[0-5]|[689])|35|6011|64[4-9]|65"
    r"|62|81|5[06-8]|63|67"
)

_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")

# Characters of an IBAN by country, from the registry that SWIFT keeps for ISO 13616.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        33: "RU",
        32: "LC",
    }.items()
    for country in countries.split()
}


def secrets_in(text: str) -> frozenset[Secret]:
    """Return the kinds of secrets that a text holds."""
    kinds: list[Secret] = []
    if _keys().search(text):
        kinds.append("keys")
    if any(map(_is_card, _DIGITS.findall(text))):
        kinds.append("cards")
    if any(map(_is_iban, _like_ibans(text))):
        kinds.append("ibans")
    return frozenset(kinds)


@cache
def _keys() -> re.Pattern[str]:
    return re.compile(_KEYS, re.VERBOSE)


def _is_card(text: str) -> bool:
    """Whether a number has a card's first digits and its check digit, by the Luhn algorithm."""
    digits = [int(character) for character in text if character.isdecimal()]
    number = "".join(map(str, digits))
    if not _CARD.match(number) or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _like_ibans(text: str) -> Iterator[str]:
    """The texts that begin like the IBAN of a country and are as long, without spaces."""
    for start in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(start[0][:2].upper(), 0)
        characters = ""
        at = start.start()
        while at < len(text) and len(characters) < length:
            if text[at].isascii() and text[at].isalnum():
                characters += text[at]
            elif text[at] not in " -\u00a0" or not text[at - 1].isalnum():
                break
            at += 1
        if length and len(characters) == length and not text[at : at + 1].isalnum():
            yield characters.upper()


def _is_iban(text: str) -> bool:
    """Whether the check digits are right: ISO 7064, modulo 97."""
    number = "".join(str(int(character, 36)) for character in text[4:] + text[:4])
    return int(number) % 97 == 1
