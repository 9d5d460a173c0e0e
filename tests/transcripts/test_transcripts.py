"""Every transcript comes true, in packets of whole lines and of single octets (T16)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.transcripts.runner import TranscriptError, play

SCRIPTS = sorted(Path(__file__).parent.glob("*.imap"))


@pytest.mark.parametrize("split", [0, 1], ids=["lines", "octets"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_transcript(script: Path, split: int, tmp_path: Path) -> None:
    play(script.read_text("utf-8"), tmp_path, split)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("1: a NOOP  1< * 1 EXISTS", "came 'a OK"),
        ("1: a FROB", "instead of a OK came"),
        ("% append INBOX\n1: a SELECT INBOX\n% append INBOX\n1: b NOOP", "came '* 2 EXISTS'"),
        ("1: a NOOP  1< a NO ...", "came 'a OK"),
        ("1: a SELECT INBOX\n1: b IDLE  1< + ...\n% append INBOX\n1: DONE", "was also sent"),
    ],
)
def test_a_conversation_that_is_another_one_is_noticed(
    script: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(TranscriptError) as raised:
        play(script, tmp_path, 0)
    assert complaint in str(raised.value)
