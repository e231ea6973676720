"""The tests of `qwen35 bench --draft` and their arithmetic; never how fast anything is."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from random_model import super_block_config

from qwen35_local import _core, hub
from qwen35_local.chat.messages import Message
from qwen35_local.engine import draft_bench, draft_cases, draft_skills
from qwen35_local.engine.draft_bench import DraftBench
from qwen35_local.engine.draft_cases import DraftCase, DraftRun, Turn
from qwen35_local.engine.reply import Done, Usage
from qwen35_local.errors import DeviceError, FormatError, InputError
from qwen35_local.models.drafts import MOST_DRAFTS, Drafts
from qwen35_local.quantize.synthetic import of_config


def load(folder: Path, drafts: int, *, mtp: bool = True, **changes: object) -> _core.Model:
    made = of_config("tiny", super_block_config(mtp=mtp, **changes), "Q4_K_M")
    made.write_header(folder / "header.gguf")
    return _core.Model(folder / "header.gguf", threads=1, drafts=drafts, tensors=made.pattern)


def both(folder: Path, drafts: Drafts = 4, *, mtp: bool = True) -> DraftBench:
    """With four drafts for every pass, whether they pay or not."""
    return DraftBench(load(folder, 0, mtp=mtp), load(folder, MOST_DRAFTS, mtp=mtp), drafts)


def test_plan_is_by_format_and_depth_and_skills_come_once() -> None:
    cases = draft_cases.plan(["0", "quote", "0.7", "skills"], 16, [40, 0], ["f16", "q4"])
    names = [case.name for case in cases]
    assert names[:6] == [
        "drafts 0.0 16",
        "drafts 0.7 16",
        "quote 2000",
        "drafts 0.0 16 @ d40",
        "drafts 0.7 16 @ d40",
        "quote 2000 @ d40",
    ]
    skills = [f"{skill}, {how}" for skill in draft_skills.SKILLS for how in ("greedy", "sampled")]
    assert names[6 : 6 + len(skills)] == skills
    assert names[6 + len(skills) :] == [f"{name} q4" for name in names[: 6 + len(skills)]]


@pytest.mark.parametrize("word", ["1.5", "-0.1", "nan", "skill", ""])
def test_what_is_no_acceptance_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="expected acceptances from 0 to 1, quote or skills"):
        draft_cases.plan([word], 16, [0], ["f16"])


def test_a_case_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    bench = both(tmp_path)
    bench.check(draft_cases.plan(["0.5", "quote"], 128, [0], ["f16"]))
    with pytest.raises(InputError, match="quote 2000 @ d100 takes 4100 positions, and this model has 4096"):
        bench.check(draft_cases.plan(["quote"], 128, [100], ["f16"]))


def test_replies_side_by_side(tmp_path: Path) -> None:
    bench = both(tmp_path)
    names = []
    for case in draft_cases.plan(["0", "1"], 30, [0], ["f16"], [1, 3]):
        names.append(case.name)
        bench.prepare(case)
        turn = bench.turn()
        assert turn.off.tokens == turn.on.tokens == turn.off_again.tokens == 30 * case.batch
        assert turn.on.accepted == turn.on.drafted * (case.acceptance or 0)
        assert turn.on.tokens_per_pass == (5 if case.acceptance else 1)
    assert names == ["drafts 0.0 30", "drafts 1.0 30", "drafts 0.0 30 x3", "drafts 1.0 30 x3"]


@pytest.mark.parametrize("mtp", [True, False], ids=["block", "no block"])
@pytest.mark.parametrize("depth", [0, 70])
def test_drafts_are_right_as_often_as_was_said(tmp_path: Path, mtp: bool, depth: int) -> None:
    bench = both(tmp_path, mtp=mtp)
    runs = {}
    for case in draft_cases.plan(["0", "0.7", "1"], 60, [depth], ["f16"]):
        bench.prepare(case)
        turn = bench.turn()
        assert turn.off.tokens == turn.on.tokens == turn.off_again.tokens == 60
        assert turn.off.drafted == turn.off_again.drafted == 0
        runs[case.acceptance] = turn.on
        ratios = bench.pass_ratios()
        assert min(ratios.pass_of_2, ratios.pass_of_4, ratios.pass_of_8, ratios.ready_for_drafts) > 0
        assert (ratios.draft_step is not None) == mtp
    assert runs[0].accepted == 0 and runs[0].drafted == 4 * 56 + 3 + 2 + 1 and runs[0].tokens_per_pass == 1
    assert runs[1].accepted == runs[1].drafted == 48 and runs[1].tokens_per_pass == 5
    assert 0.2 < runs[0.7].accepted / runs[0.7].drafted < 0.8


def test_all_cases_extend_one_context_and_draw_what_they_should(tmp_path: Path) -> None:
    """With the engine's own choice of drafts."""
    bench = both(tmp_path, "auto")
    for case in draft_cases.plan(["0", "0.9"], 40, [300, 0], ["f16", "q8"]):
        read: list[tuple[int, int]] = []
        bench.prepare(case, lambda done, total, read=read: read.append((done, total)))  # type: ignore[misc]
        assert read[-1][0] == read[-1][1]
        assert bench.turn().on.seconds > 0


def test_a_shallower_case_begins_a_context_of_its_own(tmp_path: Path) -> None:
    bench = both(tmp_path)
    for depth, kv in ((300, "f16"), (300, "f16"), (40, "f16"), (80, "f16"), (80, "q8")):
        [case] = draft_cases.plan(["0.5"], 8, [depth], [kv])  # type: ignore[list-item]
        bench.prepare(case)
        for side in (bench._off, bench._on):
            assert side.fork().tokens.tolist() == side.prompt(case)[:-1] and len(side.fork()) == depth - 1
            assert side._kv == kv


def test_what_is_quoted_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_cases, "QUOTED_TOKENS", 150)
    bench = both(tmp_path, mtp=False)
    [case] = draft_cases.plan(["quote"], 16, [30], ["f16"])
    assert case.n_gen == 150 and case.prompt_tokens == 180
    bench.prepare(case)
    run = bench.turn().on
    assert run.tokens == 150 and run.accepted / run.drafted > 0.9 and run.tokens_per_pass > 3


def test_another_token_with_drafts_is_an_error(tmp_path: Path) -> None:
    """The model with drafts is another one here."""
    other = load(tmp_path, MOST_DRAFTS, layers=8)
    bench = DraftBench(load(tmp_path, 0), other, 4)
    for case in draft_cases.plan(["0", "1"], 30, [0], ["f16"]):
        bench.prepare(case)
        with pytest.raises(DeviceError, match=r"behind \d+ tokens: drew .* with drafts and .* without"):
            bench.turn()


def test_skills_are_replies_of_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {skill: prompts[:2] for skill, prompts in draft_skills.SKILLS.items()}
    monkeypatch.setattr(draft_skills, "SKILLS", short)
    file = hub.embedded_model()
    bench = DraftBench(_core.Model(file, threads=1), _core.Model(file, threads=1, drafts=MOST_DRAFTS), 4)
    for case in draft_cases.plan(["skills"], 16, [0], ["f16"]):
        bench.prepare(case)
        turn = bench.turn()
        assert turn.off.tokens == turn.on.tokens > 10
        assert turn.on.drafted > turn.on.accepted > 0 == turn.off.drafted, case.name


def test_the_time_of_a_reply_begins_with_its_first_token(tmp_path: Path) -> None:
    usage = Usage(seconds=5.0, first_token_seconds=3.5, generated_tokens=11, drafted_tokens=7, accepted_tokens=4)
    side = both(tmp_path)._off
    side._engine = SimpleNamespace(reply=lambda request: [Done("stop", Message("assistant", "Hi"), usage)])  # type: ignore[assignment]
    run, replies = side.replies(DraftCase("skill", skill="json"))
    n = len(draft_skills.SKILLS["json"])
    assert run == DraftRun(1.5 * n, 10 * n, 7 * n, 4 * n)
    assert replies == [(Message("assistant", "Hi"), "stop")] * n


def test_another_text_with_drafts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    file = hub.embedded_model()
    bench = DraftBench(_core.Model(file, threads=1), _core.Model(file, threads=1, drafts=MOST_DRAFTS))
    bench.prepare(DraftCase("skill", skill="story", temperature=1.0))
    original = draft_bench.requests

    def colder(skill: str, temperature: float) -> object:
        return original(skill, 0.0)

    monkeypatch.setattr(draft_bench, "requests", colder)
    with pytest.raises(DeviceError, match=r"story, sampled: drew .* with drafts and .* without"):
        bench.turn()


def test_a_model_without_a_tokenizer_has_no_skills(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        both(tmp_path).prepare(DraftCase("skill", skill="story"))


def test_gain_is_of_the_turns_behind_the_first() -> None:
    def turn(off: float, on: float, again: float) -> Turn:
        return Turn(DraftRun(off, 100), DraftRun(on, 100, 80, 60), DraftRun(again, 100))

    found = draft_cases.gain(turn(2.0, 4.0, 2.0), [turn(2.0, 1.0, 4.0), turn(3.0, 1.0, 1.0), turn(4.0, 2.0, 8.0)])
    assert found.first_ratio == 0.5
    assert found.ratio == 3.0 and found.spread == pytest.approx(0.8), "of the mean of both runs without"
    assert found.off_ratio == 0.5 and found.off_spread == pytest.approx(2.5 - 0.5)
    assert found.tokens_per_s == 100 and found.off_tokens_per_s == pytest.approx((100 / 4 + 100 / 3) / 2)
    assert (found.drafted, found.accepted, found.accepted_share) == (240, 180, 0.75)
    assert found.tokens_per_pass == 2.5
    none = draft_cases.gain(turn(1, 1, 1), [Turn(DraftRun(1, 9), DraftRun(1, 9), DraftRun(1, 9))])
    assert none.accepted_share is None and none.tokens_per_pass == 1
