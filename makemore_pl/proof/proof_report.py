"""The proof's findings: as a line for people, as `verification.json`, and in the exported file's metadata."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from makemore_pl.proof.certificate import Certificate
from makemore_pl.proof.logits import Check, describe_context
from makemore_pl.proof.names import SameNames


@dataclass(frozen=True)
class Report:
    """The proof's findings. Stored as `verification.json`.

    Attributes:
        contexts: number of contexts compared.
        total: number of contexts there are: V^T, for each label.
        checks: one for each form of the model, then those of the small batch sizes.
        certificate: a bound that holds after every context; None where no file stores a network, only logits,
            which are then compared one by one.
        names: the comparison of the sampler's names; None where no sampler was to be proven.
        characters, labels: to show contexts as text.
        list_missing: the list is gone or has changed, so that only random contexts were compared.
    """

    contexts: int
    total: int
    checks: list[Check]
    certificate: Certificate | None
    names: SameNames | None
    characters: str
    labels: Sequence[str] = ()
    list_missing: bool = False

    @property
    def exhaustive(self) -> bool:
        return self.contexts == self.total

    @property
    def largest(self) -> float:
        """Largest deviation of any form from the trained model, in any logit."""
        return max(check.largest for check in self.checks)

    def summary(self) -> dict[str, Any]:
        """The part of the report that the exported file itself holds."""
        return {
            "passed": True,  # a failure raises, and leaves no file
            "contexts": self.contexts,
            "contexts_total": self.total,
            "exhaustive": self.exhaustive,
            "largest_deviation": self.largest,
            "bound": self.certificate.total if self.certificate else None,
            "names": self.names.names if self.names else 0,
        }

    def to_json(self) -> str:
        checks = [
            {**asdict(c), "context_text": describe_context(c.context, self.characters, self.labels)}
            for c in self.checks
        ]
        parts: dict[str, Any] = {
            "checks": checks,
            "certificate": asdict(self.certificate) if self.certificate else None,
            "sampler": asdict(self.names) if self.names else None,
            "list_missing": self.list_missing,
        }
        return json.dumps({**self.summary(), **parts}, indent=2, ensure_ascii=False) + "\n"

    def describe(self) -> str:
        """One line for people."""
        which = f"all {self.total:,}" if self.exhaustive else f"{self.contexts:,} of {self.total:,}"
        names = f", {self.names.names:,} names the same" if self.names else ""
        missing = " (random ones: the list is gone or has changed)" if self.list_missing else ""
        return f"verified on {which} contexts{missing}, largest deviation {self.largest:.1e}{names}"
