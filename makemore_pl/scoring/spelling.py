"""A column of texts in the spelling of the training names."""

import numpy as np

from makemore_pl.scoring.text_column import TextColumn, of_list
from makemore_pl.text import PLAIN, TextRules


def spelled(texts: TextColumn, rules: TextRules) -> TextColumn:
    """The texts in the spelling of the training names."""
    is_ascii = texts.codepoints.dtype == np.uint8  # which no Unicode form changes
    if rules == PLAIN or (rules.case == "keep" and is_ascii and not _have_outer_spaces(texts)):
        return texts
    changed = of_list(list(map(rules.name, texts.to_list())))
    return TextColumn(changed.codepoints, changed.offsets, texts.missing)


def _have_outer_spaces(texts: TextColumn) -> bool:
    starts, ends = texts.offsets[:-1], texts.offsets[1:]
    filled = starts < ends
    return bool((texts.codepoints[np.append(starts[filled], ends[filled] - 1)] <= ord(" ")).any())
