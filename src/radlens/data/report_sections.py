"""Divide the plain text of a radiology report at its headings."""

from __future__ import annotations

import re

# "FINDINGS:", "REASON FOR EXAMINATION:", "FINDINGS AND IMPRESSION:" at the start of a line, in capitals
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z ()/,&-]{2,60}?)[ \t]*:(?=\s|$|[A-Z0-9])", re.MULTILINE)
_SECTION = {
    "FINDINGS": "findings",
    "FINDING": "findings",
    "FINDINGS AND IMPRESSION": "findings",
    "FINDINGS/IMPRESSION": "findings",
    "IMPRESSION": "impression",
    "IMPRESSIONS": "impression",
    "IMPRESSION AND FINDINGS": "impression",
    "CONCLUSION": "impression",
    "CONCLUSIONS": "impression",
    "INDICATION": "indication",
    "INDICATIONS": "indication",
    "HISTORY": "indication",
    "CLINICAL HISTORY": "indication",
    "CLINICAL INFORMATION": "indication",
    "CLINICAL INDICATION": "indication",
    "REASON FOR EXAM": "indication",
    "REASON FOR EXAMINATION": "indication",
    "REASON FOR THE EXAM": "indication",
    "COMPARISON": "comparison",
    "COMPARISONS": "comparison",
}


def split_sections(text: str) -> dict[str, str]:
    """Section (`indication`, `comparison`, `findings`, `impression`) -> its text; only those that are there.

    A heading is words in capitals with a colon at the start of a line. What stands under any other heading (technique,
    wet read) or before the first one belongs to no section. A section that stands twice is joined by a blank line.
    """
    headings = list(_HEADING.finditer(text))
    found: dict[str, str] = {}
    for number, heading in enumerate(headings, 1):
        end = headings[number].start() if number < len(headings) else len(text)
        section = _SECTION.get(" ".join(heading[1].split()))
        body = text[heading.end() : end].strip()
        if section is not None and body:
            found[section] = f"{found[section]}\n\n{body}" if section in found else body
    return found
