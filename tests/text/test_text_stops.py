from hypothesis import example, given
from hypothesis import strategies as st

from qwen35_local.text.stop_strings import StopStrings

letters = st.text(alphabet="ab\n日", max_size=12)
stops = st.lists(st.text(alphabet="ab\n日", min_size=1, max_size=4), max_size=3)


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """Character by character: the first end at which some stop string ends, the longest of these."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))], True
    return text, False


@given(st.lists(letters, max_size=8), stops)
@example(["ab", "ab", "b"], ["abb"])
@example(["aab"], ["aabb", "ab"])
@example(["x", "\n", "\nq"], ["\n\n"])
def test_any_cut_ends_where_the_whole_ends(pieces: list[str], stops: list[str]) -> None:
    stream = StopStrings(stops)
    shown = [stream.push(piece) for piece in pieces]
    text, is_found = expected("".join(pieces), stops)
    assert "".join(shown) + stream.finish() == text
    assert (stream.found in stops) == is_found


@given(st.lists(letters, max_size=8), stops)
def test_nothing_is_held_back_that_no_stop_string_begins_with(pieces: list[str], stops: list[str]) -> None:
    stream = StopStrings(stops)
    so_far, shown = "", ""
    for piece in pieces:
        so_far, shown = so_far + piece, shown + stream.push(piece)
        if stream.found is not None:
            break
        held = so_far[len(shown) :]
        assert held == "" or any(stop.startswith(held) for stop in stops)
        assert not any(stop.startswith(so_far[at:]) for at in range(len(shown)) for stop in stops)


def test_after_the_end_nothing_comes() -> None:
    stream = StopStrings(["."])
    assert stream.push("One. Two.") == "One"
    assert stream.found == "."
    assert stream.push("Three") == stream.finish() == ""
