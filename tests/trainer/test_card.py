"""What a card says of a student's worth."""

from pathlib import Path

import yaml

from trainer.card import CARD_NAME, RESULTS_NAME, CardScore, write_verdict

SCORE = CardScore("maths", "yes", 300, (0.925, 0.89, 0.95), (0.9, 0.86, 0.93), (0.01, 0, 0.03))


def test_a_verdict_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    card = tmp_path / CARD_NAME
    card.write_text("# Student of r\n\n## Settings\n")
    for sentence in ("Not enough data.", "It | is <b>within</b>."):
        write_verdict(tmp_path, sentence, [SCORE], items="r: test.jsonl", revision="c3a1")
    text = card.read_text()
    assert text.startswith("# Student of r\n\n## Settings\n\n## Verdict\n")
    assert "Not enough data" not in text
    assert "It \\| is \\<b\\>within" in text
    assert "| maths | 92.5 [89.0, 95.0] | 90.0 [86.0, 93.0] | 1.0 [0.0, 3.0] | 300 | yes |" in text


def test_scores_stand_as_model_hubs_read_them(tmp_path: Path) -> None:
    write_verdict(tmp_path, "Yes.", [SCORE], items="r: test.jsonl", revision="c3a1")
    (found,) = yaml.safe_load((tmp_path / RESULTS_NAME).read_text())
    assert found["dataset"] == {"id": "r: test.jsonl", "task_id": "maths", "revision": "c3a1"}
    assert found["value"] == 92.5
    assert "300 items" in found["notes"]
    assert "[89.0, 95.0]" in found["notes"]
