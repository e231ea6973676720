"""`plan` of a checkpoint folder counts what a conversion of it would write."""

from pathlib import Path

import pytest
import tiny_checkpoints
from safetensors_bytes import change_json
from tiny_checkpoints import Tiny

from qwen35_local.cli.subjects import subjects_of as subjects
from qwen35_local.errors import FormatError
from qwen35_local.hub.resolve import Checkpoint
from qwen35_local.plan.subject import Extras, Subject


def planned(folder: Path) -> Subject:
    (subject,) = subjects(Checkpoint(folder, folder / "cached.gguf", "F32"), "m", "F32", Extras())
    return subject


@pytest.mark.parametrize("flag", [True, False, None])
@pytest.mark.parametrize("has_head", [True, False])
def test_the_output_matrix_is_what_the_tensors_say(has_head: bool, flag: bool | None, tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path, Tiny(is_tied=not has_head))
    change_json(tmp_path, "config.json", lambda c: c.update(tie_word_embeddings=flag))
    subject = planned(tmp_path)
    assert any(tensor.name == "output.weight" for tensor in subject.footprint.tensors) == has_head
    is_against = bool(flag) == has_head
    assert any("tie_word_embeddings" in notice for notice in subject.notices) == is_against


def test_rows_of_the_embedding_table_count(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path, Tiny())
    change_json(tmp_path, "config.json", lambda c: c.update(vocab_size=200))
    assert planned(tmp_path).footprint.vocabulary == 320


def test_without_weights_the_configuration_counts(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path, Tiny(is_tied=False))
    (tmp_path / "model.safetensors").unlink()
    subject = planned(tmp_path)
    assert any(tensor.name == "output.weight" for tensor in subject.footprint.tensors)
    assert not subject.notices


def test_weights_that_cannot_be_converted_are_refused(tmp_path: Path) -> None:
    tiny_checkpoints.write(tmp_path, Tiny())
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FormatError, match=r"model.safetensors: .*it is empty"):
        planned(tmp_path)
