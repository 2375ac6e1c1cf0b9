import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from makemore_pl.text import CASE, NORMALIZE, TextRules

NFC = TextRules()
RULES = [TextRules(normalize, case) for normalize in NORMALIZE for case in CASE]
ODD = st.text(
    st.sampled_from("aB é\u0301İΣßﬁ①ⅷ\u0308ŉΐ\u00a8 -'ʻ9")
    | st.sampled_from("\u200b\u200c\u200d\u200e\u202e\u2060\ufeff\u00ad\u180e")
    | st.sampled_from("می\u064bक\u094dമ\u0d4d\u1820👩🏽\ufe0f❤↔🏴\U000e0067\U000e007f נ\u05b8")
    | st.characters(exclude_categories=["Cs"]),
    max_size=12,
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Zoe\u0308", "Zoë"),
        ("Nguye\u0302\u0303n", "Nguyễn"),
        ("Tr\u00e2\u0300n", "Trần"),
        ("\ufeff Anna\u200b ", "Anna"),
        ("An\u200bna\u00ad", "Anna"),
        ("e\u200b\u0301", "é"),  # what had kept them apart is gone
        ("\u200fנוֹעָה\u200e", "נוֹעָה"),
        ("\u202bمحمد\u202c", "محمد"),
        ("\u2067علي\u2069", "علي"),
        # Joiners that a script needs
        ("می\u200cنا", "می\u200cنا"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("\u09b0\u200d\u09cd\u09af", "\u09b0\u200d\u09cd\u09af"),
        ("\u0db1\u0dca\u200d\u0dba", "\u0db1\u0dca\u200d\u0dba"),
        ("\u0d30\u0d3e\u0d2e\u0d28\u0d4d\u200d", "\u0d30\u0d3e\u0d2e\u0d28\u0d4d\u200d"),  # at the end
        ("\u182a\u180e\u1820", "\u182a\u180e\u1820"),
        ("👩🏽\u200d🚀", "👩🏽\u200d🚀"),
        ("❤️\u200d🔥", "❤️\u200d🔥"),
        ("🙂\u200d↔️", "🙂\u200d↔️"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f"),
        # and those that none does
        ("می\u200c", "می"),
        ("\u200d👩", "👩"),
        ("👩\u200d", "👩"),
        ("An\u200dna", "Anna"),
        ("می\u200ca", "میa"),
        ("a\u200cمی", "aمی"),
        ("Jo\u200c\u200bhn", "John"),
    ],
)
def test_one_spelling(text: str, name: str) -> None:
    assert NFC.name(text) == name


def test_other_forms() -> None:
    wide = "\uff21nna\ufb01"
    assert NFC.name(wide) == wide
    assert TextRules("nfkc").name(wide) == "Annafi"
    as_it_is = "\u200bZoe\u0308\ufeff"
    assert TextRules("none").name(f" {as_it_is} ") == as_it_is


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("MARY", "Mary"),
        ("anne-marie o'BRIEN", "Anne-Marie O'Brien"),
        ("st. john 2ND", "St. John 2nd"),
        ("ÉLODIE", "Élodie"),
        ("ΓΙΩΡΓΟΣ", "Γιωργος"),
        ("HAWAIʻI ʻOKINA", "Hawaiʻi ʻOkina"),
        ("İPEK", "İpek"),
        ("ǆ", "ǅ"),
        ("美咲", "美咲"),
    ],
)
def test_title_case(text: str, title: str) -> None:
    assert TextRules(case="title").name(text) == title
    decomposed = unicodedata.normalize("NFD", text)
    assert TextRules(case="title").name(decomposed) == title
    found = TextRules("none", "title").name(decomposed)
    assert unicodedata.normalize("NFC", found) == title


def test_parts_keep_what_a_name_would_lose() -> None:
    assert TextRules(case="title").prefix("jean ") == "Jean "
    assert TextRules(case="title").part(" LUC") == " LUC"
    assert TextRules(case="lower").part(" LUC") == " luc"
    assert NFC.prefix("e\u0301") == NFC.part("e\u0301") == "é"
    assert NFC.prefix("می\u200c") == NFC.part("می\u200c") == "می\u200c"
    assert NFC.prefix("an\u200c\ufeff") == "an"


@given(ODD, st.sampled_from(RULES))
@example("①\u200d②", TextRules("nfkc"))
def test_a_normalised_name_stays_as_it_is(text: str, rules: TextRules) -> None:
    name = rules.name(text)
    assert rules.name(name) == name
    assert rules.spelled(name) == name
    if rules.normalize != "none":
        assert unicodedata.is_normalized(rules.normalize.upper(), name)
        assert rules.name(unicodedata.normalize("NFD", text)) == name


@given(st.lists(ODD, max_size=4), st.sampled_from(RULES))
def test_many_names_at_once(names: list[str], rules: TextRules) -> None:
    found, n_respelled = rules.names(names)
    assert found == [rules.name(name) for name in names]
    assert n_respelled == sum(rules.spelled(name) != name.strip() for name in names)
