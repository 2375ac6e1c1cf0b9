"""The systems of the makemore lectures, by name."""

from makemore_pl.studies.s1_to_s5 import (
    EXACT,
    study_rung,
    study_s1,
    study_s2a,
    study_s2e,
    study_s3,
    study_s4,
    study_s5,
)
from makemore_pl.studies.s6_to_s8 import study_s6, study_s7, study_s8
from makemore_pl.studies.workbench import Study

STUDIES: dict[str, Study] = {
    "S1": study_s1,
    "S2a": study_s2a,
    "S2b": study_rung("S2b", 2.07, 2.13, digits=2),
    "S2c": study_rung("S2c", 2.0355966, 2.1026783, EXACT, digits=7),
    "S2d": study_rung("S2d", 2.0376642, 2.1069896, EXACT, digits=7),
    "S2e": study_s2e,
    "S3": study_s3,
    "S4": study_s4,
    "S5": study_s5,
    "S6": study_s6,
    "S7": study_s7,
    "S8": study_s8,
}
