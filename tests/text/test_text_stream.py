from hypothesis import example, given
from hypothesis import strategies as st
from vocabularies import tiny_bpe

from qwen35_local.text.stream import Piece, TokenStream, Utf8Stream
from qwen35_local.text.tokenizer import Tokenizer

TINY = Tokenizer(tiny_bpe())
some_bytes = st.binary(max_size=24) | st.text(max_size=12).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(st.lists(some_bytes))
@example([b"\xf0\x9f", b"\xa6\x99", b"\xe4\xb8"])
@example([b"\xf0", b"\x80", b"\xed\xa0\x80", b"\xff"])
def test_any_split_decodes_like_the_whole(pieces: list[bytes]) -> None:
    stream = Utf8Stream()
    text = "".join(map(stream.push, pieces)) + stream.finish()
    assert text == b"".join(pieces).decode("utf-8", "replace")
    assert stream.finish() == ""


@given(st.text())
def test_no_piece_holds_half_a_character(text: str) -> None:
    stream = Utf8Stream()
    pieces = [stream.push(bytes([byte])) for byte in text.encode()]
    assert [piece for piece in pieces if piece] == list(text)


@given(st.text())
def test_tokens_in_text_out(text: str) -> None:
    stream = TokenStream(TINY)
    ids = [TINY.token_id("<think>"), *TINY.encode(text), TINY.token_id("<|im_end|>")]
    pieces = [piece for token in ids for piece in stream.push(token)]
    assert "".join(piece.text for piece in pieces) + stream.finish() == TINY.decode(ids, keep_control=False)
    assert [piece.text for piece in pieces if piece.is_special] == ["<think>"]


def test_a_special_token_is_a_piece_of_its_own() -> None:
    """Also behind the first bytes of a character that was never finished."""
    think = TINY.token_id("<think>")
    half = TINY.encode("é")[:1] if len(TINY.encode("é")) > 1 else [TINY.encode("日")[0]]
    stream = TokenStream(TINY)
    pieces = [piece for token in [*half, think, *TINY.encode("<think>")] for piece in stream.push(token)]
    assert pieces[:2] == [Piece("\ufffd", False), Piece("<think>", True)]
    assert "".join(piece.text for piece in pieces[2:]) == "<think>"
    assert not any(piece.is_special for piece in pieces[2:])
