"""The four verdicts of a trust card as the page shows them: a glyph, a word and a colour that need each other less."""

from __future__ import annotations

from dataclasses import dataclass

from radlens.report.contents import Row, RunContents

Key = tuple[str, str, str, str]
"""(setting, method, layer, label)."""
MEANINGS = {
    "may be believed": (
        "✓",
        "believed",
        "it passed every check that it was put to, and was put to all of them",
    ),
    "not shown": (
        "?",
        "unshown",
        "nothing speaks against it, but too little for it: treat it as a picture, not a finding",
    ),
    "contradicted": ("✗", "contradicted", "at least one check failed by more than chance: do not read it"),
    "refused": ("⊘", "refused", "it means nothing: no gradient, one value everywhere, or the same for every label"),
}
"""Verdict -> its glyph, its CSS class, and what it says to a reader."""


@dataclass(frozen=True)
class TrustVerdict:
    """One card. passed, failed, undecided (put to, without an answer), missing (never put to): names of checks."""

    word: str
    reason: str
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def glyph(self) -> str:
        """A sign that says the same without colour."""
        return MEANINGS.get(self.word, ("", "", ""))[0]

    @property
    def kind(self) -> str:
        """Its CSS class."""
        return MEANINGS.get(self.word, ("", "", ""))[1]

    @property
    def tested(self) -> bool:
        """Whether it was put to any check at all."""
        return bool(self.passed or self.failed or self.undecided)

    @property
    def brief(self) -> str:
        """What stands behind the word, by the names of the checks alone."""
        parts = (("failed", self.failed), ("no answer", self.undecided), ("not tested", self.missing))
        told = "; ".join(f"{word}: {', '.join(names)}" for word, names in parts if names)
        return told or (f"passed: {', '.join(self.passed)}" if self.passed else self.reason)

    def state(self, check: str) -> str:
        """passed, failed, open, missing, or spared: the setting has nothing that this check could change."""
        for name, checks in (("passed", self.passed), ("failed", self.failed), ("open", self.undecided)):
            if check in checks:
                return name
        return "missing" if check in self.missing else "spared"


def trust_verdicts(run: RunContents) -> dict[Key, TrustVerdict]:
    """All cards of a run; empty where it made none."""
    return {
        (row.get("setting", ""), row.get("method", ""), row.get("layer", ""), row.get("label", "")): _verdict(row)
        for row in run.tables["trust_cards"]
    }


def _verdict(row: Row) -> TrustVerdict:
    named = [tuple(name for name in row.get(key, "").split(", ") if name) for key in _LISTS]
    return TrustVerdict(row.get("verdict", ""), row.get("reason", ""), *named)


_LISTS = ("passed", "failed", "open", "missing")
