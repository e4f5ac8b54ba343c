"""The labeler `mesh`: labels from the MeSH/Open-i codes that human indexers gave a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from radlens.core.errors import DataError
from radlens.core.parts import Labeler, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import EVIDENCE, LabelledReports, Reports, check_vocabulary
from radlens.core.vocabulary import load_vocabulary
from radlens.labels.mesh_codes import TABLE, CodeReader, Meaning, code_table, heading_of

_NO_FINDING = "No Finding"
# what may stand on a film without being a finding: so does the CheXpert labeler
_NOT_A_FINDING = "Support Devices"
_ORIGIN = "MeSH major codes of human indexers (labeler mesh)"


@register("labelers", "mesh")
class Mesh(Labeler):
    """Labels from the MeSH/Open-i major codes of human indexers (IU-Xray), by the table `mesh.toml`.

    borderline: what a code such as Cardiomegaly/borderline says, `uncertain` (-1, as CheXpert reads it) or `positive`.
    no_finding: `no-pathology` (none of the twelve findings is positive or uncertain, as the CheXpert labeler decides;
    devices do not count, nor does what chexpert-14 has no label for, such as emphysema or scoliosis), or `normal-code`
    (the only code is "normal").

    Indexers code all that a report affirms, so what an indexed report does not code is 0, never null. A report that
    nobody indexed is not assessed: that is not "normal". A heading that the table does not know is counted in
    `unknown`; it sets no label, but leaves a No Finding by `no-pathology` uncertain.
    """

    borderline: Literal["uncertain", "positive"] = "uncertain"
    no_finding: Literal["no-pathology", "normal-code"] = "no-pathology"

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The table of the mapping: a judgement changed there changes the labels."""
        return (TABLE,)

    def label(self, reports: Reports, folder: Path, work: Path, progress: Progress = unheard) -> LabelledReports:
        """See `Labeler.label`. Raises `DataError` when no report has codes."""
        table = code_table()
        makes = [_NO_FINDING, *dict.fromkeys(n for rule in table.rule for n in (*rule.labels, *rule.uncertain))]
        vocabulary = load_vocabulary(self.vocabulary, folder)
        check_vocabulary(vocabulary, makes, "mesh")
        names = [name for name in vocabulary.names if name in makes]
        if reports.table["codes"].null_count() == len(reports):
            raise DataError(
                f"{reports.name}: labeler 'mesh' reads the MeSH codes of indexers, and none of the {len(reports)} "
                "reports has any; choose a labeler that reads the text."
            )
        reader = CodeReader(table, 1 if self.borderline == "positive" else -1)
        rows: list[dict[str, Any]] = []
        evidence: list[dict[str, Any]] = []
        unknown: Counter[str] = Counter()
        studies = reports.table.select("study_id", "codes").iter_rows()
        for done, (study, listed) in enumerate(studies, 1):
            codes = None if listed is None else [" ".join(code.split()) for code in listed if code and code.strip()]
            read = [(code, reader.read(code)) for code in codes or ()]
            if codes is None or (read and all(meaning.unindexed for _, meaning in read)):
                rows.append({"study_id": study, "assessed": False})
            else:
                unknown.update(heading_of(code) for code, meaning in read if not meaning.known)
                values, because = self._decide(read)
                rows.append({"study_id": study, "assessed": True} | {name: values.get(name, 0) for name in names})
                evidence.extend(
                    {"study_id": study, "label": name, "value": values[name], "because": code}
                    for name, code in because
                    if name in names
                )
            progress(done, len(reports))
        schema = {"study_id": pl.String, "assessed": pl.Boolean, **dict.fromkeys(names, pl.Int8)}
        return LabelledReports(
            pl.DataFrame(rows, schema),
            pl.DataFrame(evidence, EVIDENCE),
            _ORIGIN,
            dict(unknown.most_common()),
            self._notes(sum(not row["assessed"] for row in rows), len(rows), unknown),
        )

    def _decide(self, read: Sequence[tuple[str, Meaning]]) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Label -> value of one report, and the (label, code) pairs that decided."""
        values: dict[str, int] = {}
        for _, meaning in read:
            for name, value in meaning.labels.items():
                values[name] = max(value, values.get(name, value))
        because = [
            (name, code) for code, meaning in read for name, value in meaning.labels.items() if value == values[name]
        ]
        normal = [code for code, meaning in read if meaning.normal]
        if self.no_finding == "normal-code":
            if normal and len(normal) == len(read):
                values[_NO_FINDING] = 1
                because.append((_NO_FINDING, normal[0]))
        elif not values.keys() - {_NOT_A_FINDING}:
            strange = [code for code, meaning in read if not meaning.known]
            values[_NO_FINDING] = -1 if strange else 1
            because.append((_NO_FINDING, (strange or normal or ["no code of a finding"])[0]))
        return values, because

    def _notes(self, unindexed: int, total: int, unknown: Counter[str]) -> tuple[str, ...]:
        notes = [
            f"No Finding by the definition {self.no_finding!r}; codes called borderline count as {self.borderline}."
        ]
        if unindexed:
            notes.append(f"{unindexed} of {total} reports were never indexed: they are not assessed.")
        if unknown:
            shown = ", ".join(f"{heading} ({count})" for heading, count in unknown.most_common(5))
            notes.append(
                f"{unknown.total()} codes have one of {len(unknown)} headings that labeler mesh does not know and "
                f"leaves out: {shown}{', ...' if len(unknown) > 5 else ''}."
            )
        return tuple(notes)
