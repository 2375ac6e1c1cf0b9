"""One spelling for each name: how text is normalised when it is read, scored or compared.

What looks the same should be the same: é may be one character or two (Unicode's NFC and NFD), and what is
copied from pages and spreadsheets carries marks that nobody sees. Both halves of the project use these rules;
a checkpoint and an exported file say which they are.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Normalize: TypeAlias = Literal["nfc", "nfkc", "none"]
Case: TypeAlias = Literal["keep", "lower", "title"]
NORMALIZE: tuple[Normalize, ...] = get_args(Normalize)
_FORMS: dict[str, Literal["NFC", "NFKC"]] = {"nfc": "NFC", "nfkc": "NFKC"}
CASE: tuple[Case, ...] = get_args(Case)

_MARKS = re.compile("[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]+")
"""Soft hyphen, zero-width space, direction marks, word joiner and its kin, byte order mark: never needed."""
_JOINERS = re.compile("[\u180e\u200c\u200d]+")
"""Mongolian vowel separator, zero-width non-joiner and joiner: some writing needs them."""
_UNSEEN = re.compile(f"{_MARKS.pattern}|{_JOINERS.pattern}")
_ZWJ = "\u200d"
_VIRAMA = 9
"""Canonical combining class of the sign that joins two consonants, in all Indic scripts."""
_JOINING = re.compile(
    "(ADLAM|ARABIC|BALINESE|BENGALI|BRAHMI|CHAKMA|DEVANAGARI|GRANTHA|GUJARATI|GURMUKHI|HANIFI|JAVANESE|KAITHI"
    "|KANNADA|KHMER|KHOJKI|MALAYALAM|MANDAIC|MANICHAEAN|MODI|MONGOLIAN|MYANMAR|NEWA|NKO|ORIYA|PHAGS-PA"
    "|SHARADA|SIDDHAM|SINHALA|SOGDIAN|SYLOTI|SYRIAC|TAKRI|TAMIL|TELUGU|TIBETAN|TIRHUTA) "
)
"""Begins the names of characters whose scripts join letters: cursive ones, and those with a virama."""


@dataclass(frozen=True)
class TextRules:
    """The way text is normalised.

    With `none`, characters stay as they are. Otherwise text is brought into the Unicode form of that name
    (UAX #15), and marks that nobody sees are dropped, but for joiners that writing needs. These stand

    * between two characters of a script that joins letters (The Unicode Standard 23.2, UAX #31 2.3.1),
    * after a virama, where a zero-width joiner may end a word, as in Malayalam (RFC 5892, appendix A.2),
    * as a zero-width joiner between two symbols (emoji sequences, UTS #51).

    Attributes:
        normalize: nfc, nfkc (which also replaces full-width letters, ligatures and the like), or none.
        case: keep, lower, or title: a capital at the start of each word.
    """

    normalize: Normalize = "nfc"
    case: Case = "keep"

    def name(self, text: str) -> str:
        """A whole name, without outer spaces."""
        return self._cased(self.spelled(text), self.case)

    def prefix(self, text: str) -> str:
        """The beginning of a name. Spaces and joiners at its ends stay: more may follow."""
        return self._cased(self._spelled(text, whole=False), self.case)

    def part(self, text: str) -> str:
        """Any other part of a name: a suffix, say. In title case, nothing tells which case it has."""
        return self._cased(self._spelled(text, whole=False), "lower" if self.case == "lower" else "keep")

    def spelled(self, text: str) -> str:
        """A whole name, without outer spaces, before its case is changed."""
        return self._spelled(text, whole=True).strip()

    def names(self, texts: list[str]) -> tuple[list[str], int]:
        """Many names at once, and how many of them are spelled otherwise now, but for spaces and case."""
        if self._is_spelled("\n".join(texts)):
            spelled, n_respelled = [text.strip() for text in texts], 0
        else:
            spelled = [self.spelled(text) for text in texts]
            n_respelled = sum(new != old.strip() for new, old in zip(spelled, texts, strict=True))
        if self.case != "keep":
            spelled = [self._cased(name, self.case) for name in spelled]
        return spelled, n_respelled

    def _is_spelled(self, text: str) -> bool:
        """Tell, at once for many names between line ends, that none changes."""
        return (
            self.normalize == "none"
            or text.isascii()
            or (unicodedata.is_normalized(_FORMS[self.normalize], text) and not _UNSEEN.search(text))
        )

    def _spelled(self, text: str, whole: bool) -> str:
        if self._is_spelled(text):
            return text
        text = _MARKS.sub("", self._form(text))
        text = _JOINERS.sub(lambda run: run[0] if _is_needed(run, whole) else "", text)
        return self._form(text)  # marks may have kept apart what is one character

    def _cased(self, text: str, case: Case) -> str:
        if case == "keep":
            return text
        text = text.lower()
        return self._form(_title(text) if case == "title" else text)

    def _form(self, text: str) -> str:
        return text if self.normalize == "none" else unicodedata.normalize(_FORMS[self.normalize], text)


NFC = TextRules()
"""The rules unless others are chosen."""
PLAIN = TextRules("none", "keep")
"""The rules that leave all texts as they are."""


def _is_needed(run: re.Match[str], whole: bool) -> bool:
    """Tell whether writing needs the joiners at this place; at an end of no whole name, it may."""
    text, joiners = run.string, run[0]
    before, after = text[: run.start()][-1:], text[run.end() :][:1]
    if joiners == _ZWJ and before and unicodedata.combining(before) == _VIRAMA:
        return True
    if not (before and after):
        return not whole and bool(before or after) and _joins(before or after)
    if _joins(before) and _joins(after):
        return True
    return joiners == _ZWJ and _is_symbol(text[: run.start()].rstrip("\ufe0f")[-1:]) and _is_symbol(after)


def _joins(character: str) -> bool:
    return _JOINING.match(unicodedata.name(character, "")) is not None


def _is_symbol(character: str) -> bool:
    # An arrow is a mathematical one, a tone of skin a modifier.
    return bool(character) and unicodedata.category(character) in ("So", "Sm", "Sk")


def _title(text: str) -> str:
    """Lower-case text with a capital at the start of each word.

    Other than str.title, it does not take what follows a combining mark for a word. What follows an
    apostrophe is one: O'Brien.
    """
    characters, inside = [], False
    for character in text:
        characters.append(character if inside else character.title())
        if unicodedata.category(character) not in ("Mn", "Mc", "Me", "Lm"):
            inside = character.isalnum()
    return "".join(characters)
