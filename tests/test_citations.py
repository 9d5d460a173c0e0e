"""Every citation leads somewhere: RFC sections, requirement ids, files and tests in docs.

`docs/rfc-sections.json` lists the sections of each RFC that the project cites by section,
`docs/requirements.json` the requirement ids. Extend them when a new one is cited.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SELF = Path(__file__).resolve()

SECTIONS: dict[str, set[str]] = {
    number: set(rfc["sections"])
    for number, rfc in json.loads((DOCS / "rfc-sections.json").read_text("utf-8")).items()
}
REQUIREMENTS: set[str] = set(json.loads((DOCS / "requirements.json").read_text("utf-8")))

# "RFC 9051 §6.4.5", "RFC 4314 §2.1, §4", "RFC 6851 §4.3-4.4", "RFC 9051 Appendix E";
# a line break, with its comment sign, may stand for any of the spaces.
_SPACE = r"[\s#]+"
_MARK = rf"(?:§{{1,2}}\s?|[Ss]ections?{_SPACE}|[Aa]ppendix{_SPACE})"
_SECTION = r"(?:[A-I](?:\.\d+)*|\d+(?:\.\d+)*)(?!\w)"
_CITATION = re.compile(
    rf"RFC{_SPACE}(\d+),?{_SPACE}"
    rf"({_MARK}{_SECTION}(?:(?:,{_SPACE}|{_SPACE}and{_SPACE}){_MARK}{_SECTION}|[-–]{_SECTION})*)"
)
_REQUIREMENT = re.compile(r"\b(?:(?:SUN|CGP|DOV)-\d+|[TRSW]\d{1,2})\b(?!-\d)")
_PATH = re.compile(r"`((?:mailserver|tests|docs|templates|twisted|bench)/[^`\s]*)`")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def sections(text: str) -> Iterator[tuple[int, str, str]]:
    """The (line, RFC number, section) of every section that a text cites."""
    for match in _CITATION.finditer(text):
        for cited in re.finditer(_SECTION, re.sub(r"[Ss]ection|[Aa]ppendix", "", match[2])):
            yield text.count("\n", 0, match.start()) + 1, match[1], cited[0]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The (line, text) pairs in which a requirement id is a citation and not data."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Expr(value=ast.Constant(value=str(docstring))):
                    for number, line in enumerate(docstring.splitlines()):
                        yield node.lineno + number, line
    else:
        comment = {".imap": "#", ".lmtp": "#", ".sql": "--"}.get(path.suffix, "")
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line.partition(comment)[2] if comment else line


def sources() -> list[Path]:
    """Files whose citations are checked."""
    suffixes = {".py", ".md", ".imap", ".lmtp", ".sql"}
    inside = [p for top in ("mailserver", "tests", "bench") for p in (ROOT / top).rglob("*")]
    documents = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    return sorted(p for p in [*inside, *documents] if p.suffix in suffixes and p != SELF)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_cited_rfc_section_exists() -> None:
    wrong = [
        f"{name(path)}:{line}: RFC {number} has no section {section}"
        if number in SECTIONS
        else f"{name(path)}:{line}: RFC {number} is not in docs/rfc-sections.json"
        for path in sources()
        for line, number, section in sections(path.read_text("utf-8"))
        if section not in SECTIONS.get(number, ())
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_cited_requirement_exists() -> None:
    wrong = [
        f"{name(path)}:{line}: no requirement {match[0]}"
        for path in sources()
        for line, text in prose(path)
        for match in _REQUIREMENT.finditer(text)
        if match[0] not in REQUIREMENTS
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("RFC 9051 §6.4.5", [("9051", "6.4.5")]),
        ("see RFC 4314 §2.1, §4 and §6.", [("4314", "2.1"), ("4314", "4"), ("4314", "6")]),
        ("RFC 6851 §4.3–4.4", [("6851", "4.3"), ("6851", "4.4")]),
        ("RFC 9051 Appendix E", [("9051", "E")]),
        ("(RFC 3501 section 6.3.9)", [("3501", "6.3.9")]),
        ("# RFC 3501\n# §6.3.9, RFC 2177 §3", [("3501", "6.3.9"), ("2177", "3")]),
        ("RFC 9051 alone, 4 times", []),
    ],
)
def test_citations_are_found_in_their_usual_forms(text: str, cited: list[object]) -> None:
    assert [(number, section) for _, number, section in sections(text)] == cited


# --- docs/coverage.md -------------------------------------------------------------------

STATES = {"done", "partly", "open", "not copied"}


def coverage_rows() -> list[tuple[int, list[str]]]:
    """The (line, [id, requirement, state, code, test]) rows of docs/coverage.md."""
    rows = []
    for number, line in enumerate((DOCS / "coverage.md").read_text("utf-8").splitlines(), 1):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and _REQUIREMENT.fullmatch(cells[0]):
            rows.append((number, cells))
    return rows


@cache
def test_names(path: Path) -> frozenset[str]:
    """`test_x`, `TestY` and `TestY::test_x` for every test of a module."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}::{method.name}"
                for method in node.body
                if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(found)


test_names.__test__ = False  # type: ignore[attr-defined]


def missing(reference: str) -> str | None:
    """Why a path, or a test as `path::name`, of a document leads nowhere; None if it does."""
    file, _, test = reference.partition("::")
    if "*" in file:
        return None if any(ROOT.glob(file)) else f"nothing matches {file}"
    path = ROOT / file
    if not path.exists():
        return f"no file {file}"
    if test and test.partition("[")[0] not in test_names(path):
        return f"no test {test} in {file}"
    return None


def test_coverage_lists_every_access_requirement_once() -> None:
    wanted = {i for i in REQUIREMENTS if re.match(r"(SUN|CGP|DOV)-|[TR]\d", i)}
    listed = Counter(cells[0] for _, cells in coverage_rows())
    assert {i for i, count in listed.items() if count > 1} == set()
    assert wanted - set(listed) == set()


def test_coverage_rows_are_what_they_claim() -> None:
    wrong = []
    for number, cells in coverage_rows():
        at = f"docs/coverage.md:{number}: {cells[0]}"
        if len(cells) != 5:
            wrong.append(f"{at}: {len(cells)} columns, not 5")
            continue
        _, _, state, code, test = cells
        if state not in STATES:
            wrong.append(f"{at}: state {state!r} is none of {sorted(STATES)}")
        if state == "done" and not _PATH.search(code):
            wrong.append(f"{at}: done, but names no file in `mailserver/`")
        if state == "done" and not _PATH.search(test):
            wrong.append(f"{at}: done, but names no test")
        wrong += [
            f"{at}: {path} is no test; write `tests/x/test_y.py::test_name`"
            for path in _PATH.findall(test)
            if not re.fullmatch(r"tests/.+(\.py::.+|\.imap)", path)
        ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_paths_and_links_in_documents_lead_somewhere() -> None:
    wrong = []
    for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            at = f"{name(path)}:{number}"
            wrong += [f"{at}: {why}" for p in _PATH.findall(line) if (why := missing(p))]
            wrong += [
                f"{at}: link to {link} leads nowhere"
                for link in _LINK.findall(line)
                if not (path.parent / link).exists()
            ]
    assert not wrong, "\n" + "\n".join(wrong)


# --- the project speaks of itself alone --------------------------------------------------

_FOREIGN = re.compile(r"/(?:root|Users|home/[a-z]+)/")


def test_no_file_names_the_machine_it_was_made_on() -> None:
    extra = [ROOT / f for f in ("Makefile", "setup.cfg", "ruff.toml", "Dockerfile", ".ci/run")]
    wrong = [
        f"{name(path)}:{number}: {match[0]}"
        for path in [*sources(), *(p for p in extra if p.exists())]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in _FOREIGN.finditer(line)
    ]
    assert not wrong, "\n" + "\n".join(wrong)
